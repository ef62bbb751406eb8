"""Where defaults come from."""

COPYPASTE = "Pappagari et al., CopyPaste"
MISMATCH = "Emmanouilidou et al., Domain mismatch, 5.2"
AUDIOMENTATIONS = "default of audiomentations"
OWN = "our choice"
USER = "the user's"
