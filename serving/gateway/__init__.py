"""A personalised feed above a model server: recommendations, events and items by REST.

    belfry serve --models models --store store --port 8080

The model server runs in the same process, or is TensorFlow Serving elsewhere; see `serving.gateway.settings`.
"""
