"""A nearest-centroid classifier."""

import numpy as np


class NearestCentroid:
    def fit(self, features: np.ndarray, labels: np.ndarray) -> "NearestCentroid":
        self.labels = np.unique(labels)
        self.centroids = np.stack([features[labels == label].mean(axis=0) for label in self.labels])
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        distances = np.linalg.norm(features[:, None, :] - self.centroids[None], axis=2)  # (rows, labels)
        return self.labels[distances.argmin(axis=1)]
