# semibody in a container, for the CPU or for CUDA:
#
#   docker build -t semibody .
#   docker build -t semibody:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
#   docker run --rm -v "$PWD:/work" semibody animate portrait.png speech.wav -o out.mp4
#   docker run --rm --gpus all -v "$PWD:/work" -v semibody:/weights semibody:cuda doctor
ARG PYTHON=3.11
FROM python:${PYTHON}-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=pose,provenance
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY src ./src
# torch goes first and from its own index, so that nothing drags in another build. The desktop builds of
# OpenCV, which mediapipe and rtmlib ask for, need the system's libGL; the headless one has the same modules.
RUN pip install --index-url "${TORCH_INDEX}" -c constraints.txt torch \
 && pip install -c constraints.txt ".[${EXTRAS}]" \
 && (pip uninstall --yes opencv-python opencv-contrib-python opencv-python-headless opencv-contrib-python-headless || true) \
 && pip install --no-deps -c constraints.txt opencv-contrib-python-headless \
 && rm -rf /source/src
RUN useradd --create-home semibody && mkdir -p /work /weights && chown semibody /work /weights
USER semibody
ENV SEMIBODY_HOME=/weights
WORKDIR /work
ENTRYPOINT ["semibody"]
CMD ["--help"]
