"""Models with exact posteriors, fitted by EM: oracles for everything that approximates."""

from rdae.exact.bits_back import BitsBack, bits_back_decode, bits_back_encode
from rdae.exact.chain import MarkovChain
from rdae.exact.components import BernoulliComponents, CategoricalComponents, Components, GaussianComponents
from rdae.exact.em import Fit, fit_em, restart_em
from rdae.exact.enumerable import JointTable
from rdae.exact.factor import FactorAnalysis, ProbabilisticPCA
from rdae.exact.hmm import HiddenMarkovModel
from rdae.exact.linear import collapsed, diagonal_gap, linear_autoencoder
from rdae.exact.mixtures import BernoulliMixture, GaussianMixture, Mixture
from rdae.exact.model import ExactModel, PointMass, point_mass

__all__ = [
    "BernoulliComponents", "BernoulliMixture", "BitsBack", "CategoricalComponents", "Components", "ExactModel",
    "FactorAnalysis", "Fit", "GaussianComponents", "GaussianMixture", "HiddenMarkovModel", "JointTable", "MarkovChain",
    "Mixture", "PointMass", "ProbabilisticPCA", "bits_back_decode", "bits_back_encode", "collapsed", "diagonal_gap",
    "fit_em", "linear_autoencoder", "point_mass", "restart_em",
]  # fmt: skip
