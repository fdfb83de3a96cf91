"""`/api/v1`: all that the pages do, for programs. OpenAPI 3.1 at `/api/v1/openapi.json`."""
