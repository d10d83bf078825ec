"""The service that is reflected: an ordinary servicer, which knows neither of reflection nor of Segue."""
