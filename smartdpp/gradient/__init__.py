"""Per-example gradients of a frozen causal language model, many at a time.

The loss of an example is the mean cross-entropy over its response tokens; a batch's loss is the sum of its
examples', so that their gradients do not mix. The gradient of example i at a linear layer's weight is Σ_t δ_t
x_tᵀ, x_t the layer's inputs and δ_t the gradients of its outputs. Hooks see both in one batched backward
pass, so no weight gradient is ever formed: each reduction makes of x and δ what it needs (a sketch, the
Fisher diagonal, for checks the gradient itself).
"""

from smartdpp.gradient.backward import Gradients, gradients
from smartdpp.gradient.fisher import fisher_rows
from smartdpp.gradient.layers import linear_layers
from smartdpp.gradient.reductions import reduction

__all__ = ["Gradients", "fisher_rows", "gradients", "linear_layers", "reduction"]
