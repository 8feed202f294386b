"""What hospitals could do without a federation: models on pooled notes, or on one site's own."""

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline


def tfidf() -> Pipeline:
    """Return logistic regression on words and pairs of words, from texts."""
    return make_pipeline(
        TfidfVectorizer(sublinear_tf=True, min_df=3, ngram_range=(1, 2)), LogisticRegression(C=1.0, max_iter=2000)
    )


def linear_probe() -> Pipeline:
    """Return logistic regression on float[N, D] states of a frozen model."""
    return make_pipeline(LogisticRegression(C=1.0, max_iter=2000))
