# One small image for every service: docker build -t stageline . ; docker run stageline ingest
# scripts/build-image adds the revision and the time to the labels.
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/stageline
COPY requirements-services.lock ./
RUN /opt/stageline/bin/python -m pip install --no-cache-dir --quiet --require-hashes -r requirements-services.lock
# The program that lists what the image holds stays out of the image.
COPY requirements-sbom.lock ./
RUN python -m venv /opt/sbom \
    && /opt/sbom/bin/python -m pip install --no-cache-dir --quiet --require-hashes -r requirements-sbom.lock
COPY pyproject.toml README.md LICENSE ./
COPY contracts contracts
COPY shared shared
COPY stageline_kit stageline_kit
COPY services services
COPY cli cli
RUN /opt/stageline/bin/python -m pip install --no-cache-dir --quiet --no-deps --no-build-isolation . \
    && /opt/stageline/bin/python -m pip uninstall --quiet --yes pip \
    && mkdir doc && cp LICENSE doc \
    && /opt/sbom/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
        --output-file doc/sbom.cdx.json /opt/stageline/bin/python

FROM python:3.13-slim
# For OCR of scans. Workers look for the program when they start.
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends tesseract-ocr tesseract-ocr-eng \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin stageline \
    && install -d -o stageline -g stageline /var/lib/stageline /var/lib/stageline/objects /keys
COPY --from=build /opt/stageline /opt/stageline
COPY --from=build /src/doc /usr/share/doc/stageline
COPY deploy/serve /usr/local/bin/serve
ENV PATH=/opt/stageline/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MALLOC_ARENA_MAX=2 \
    STAGELINE_HOST=0.0.0.0 STAGELINE_PORT=8080 STAGELINE_DATA_DIR=/var/lib/stageline \
    STAGELINE_SANDBOX=required
USER stageline
EXPOSE 8080
# Ready means: connected, a member of its groups, and making progress.
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=12 CMD ["serve", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["serve"]
ARG VERSION=0.3.0
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="Stageline" \
      org.opencontainers.image.description="A self-hosted, Kafka-native document-job pipeline" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="python:3.13-slim"
