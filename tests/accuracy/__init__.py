"""What is measured against what is known: calls whose memory is certain by construction."""
