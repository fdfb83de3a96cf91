# syntax=docker/dockerfile:1
# Two targets of one base: `web` (receives, serves) and `worker` (works). docker build --target web .

FROM python:3.11-slim-bookworm AS build
ARG UV_VERSION=0.13.8
RUN pip install --no-cache-dir "uv==${UV_VERSION}" && uv venv /opt/heal
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
RUN uv pip install --python /opt/heal/bin/python --requirements pyproject.toml --extra postgres --extra redis
COPY app app
COPY detectors detectors
COPY actions actions
COPY workers workers
COPY migrations migrations
RUN uv pip install --python /opt/heal/bin/python --no-deps .

FROM python:3.11-slim-bookworm AS base
RUN groupadd --gid 10001 heal \
 && useradd --uid 10001 --gid heal --no-create-home --home-dir /var/lib/heal --shell /usr/sbin/nologin heal \
 && install -d -o heal -g heal -m 0700 /var/lib/heal
COPY --from=build /opt/heal /opt/heal
ENV PATH=/opt/heal/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /var/lib/heal
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["heal"]

FROM base AS worker
USER root
RUN apt-get update \
 && apt-get install --yes --no-install-recommends bubblewrap \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o heal -g heal -m 0700 /runs
USER 10001:10001
# `heal worker` ends when Celery or the poll does. The brackets keep grep from finding itself.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD ["sh", "-c", "grep -qszx 'workers[.]poll' /proc/[0-9]*/cmdline"]
CMD ["worker"]

FROM base AS web
ENV HEAL_WEB__HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
CMD ["serve"]
