"""The accountant's ε against two others that share no code with it."""

from math import erf, exp, inf, log, sqrt

import numpy as np
import pytest
from opacus.accountants.analysis.prv import PoissonSubsampledGaussianPRV
from opacus.accountants.analysis.prv.domains import *  # noqa: F403 - replaced below
