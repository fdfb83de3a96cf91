"""The port `Advisories` on OSV: https://google.github.io/osv.dev/api/ and its dumps."""

from app.adapters.osv.advisories import OsvAdvisories

__all__ = ["OsvAdvisories"]
