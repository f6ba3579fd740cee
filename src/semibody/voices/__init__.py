"""Text to speech with the voices that are installed on this machine (espeak-ng, flite)."""
