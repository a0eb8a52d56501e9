"""The public names of `funcnn.metrics`, and where each has its home."""

from funcnn.metrics.classification import (
    accuracy as accuracy,
    confusion_matrix as confusion_matrix,
    f1 as f1,
    log_loss as log_loss,
    perplexity as perplexity,
    precision as precision,
    recall as recall,
    top_k as top_k,
)
from funcnn.metrics.core import Mean as Mean, better as better
from funcnn.metrics.ranking import average_precision as average_precision, roc_auc as roc_auc
from funcnn.metrics.regression import mae as mae, r2 as r2, rmse as rmse
