"""The table of studies; a new one is one file and one line here."""

from ser_features.registry import Table, by_name
from ser_features.studies.copypaste import COPYPASTE
from ser_features.studies.cross_corpus import CROSS_CORPUS
from ser_features.studies.domain_mismatch import DOMAIN_MISMATCH
from ser_features.studies.spec import Study
from ser_features.studies.spectrogram import SPECTROGRAM
from ser_features.studies.stand_in import STAND_IN
from ser_features.studies.synthetic import SYNTHETIC
from ser_features.studies.upstreams import UPSTREAMS

STUDIES: Table[Study] = by_name(
    "study",
    (UPSTREAMS, SYNTHETIC, COPYPASTE, DOMAIN_MISMATCH, SPECTROGRAM, CROSS_CORPUS, STAND_IN),
    lambda study: study.name,
)
