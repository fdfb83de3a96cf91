"""Whether a trained model may take the champion's place: statistics on the rows that both were judged by. No I/O."""
