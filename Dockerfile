# docker build -t attention-networks . && docker run attention-networks
# With CUDA: docker build --build-arg DEVICE=gpu -t attention-networks . && docker run --gpus all attention-networks
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm

# cpu or gpu
ARG DEVICE=cpu
# g++ compiles the kernels, and brings along the libraries that MXNet links to.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /attention-networks
COPY . .
RUN bash scripts/setup.sh --python "$(command -v python)" --${DEVICE}
ENV PATH=/attention-networks/.venv/bin:$PATH
CMD ["bash", "scripts/quickstart.sh"]
