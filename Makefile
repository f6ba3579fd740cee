# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Each sets up its own .venv with Python 3.11 and pip; nothing needs installing by hand.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt
STAMP  := $(VENV)/.semibody

.PHONY: help sbom demo starter bench-starter data-demo test slow fuzz faults endurance minima audit parity lint types site bench bench-flops bench-step bench-nearly bench-gpu clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 22

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Semibody needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@# Debian splits ensurepip from Python; its own pip can fill an empty environment instead.
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(PY) install --quiet pip; }

# torch goes first and pinned, so that nothing later drags in another build.
$(STAMP)-animate: pyproject.toml constraints.txt | $(PY)
	@echo "Installing what animate needs into $(VENV) (once; a few minutes) ..."
	$(PIP) 'setuptools<81' torch==2.13.0
	$(PIP) -e .
	@touch $@

# The person in the portrait is found by mediapipe, and the gesture fitted to it.
# mediapipe and rtmlib ask for the desktop build of OpenCV, which needs the system's libGL;
# the headless build of the same version holds the same modules and needs nothing.
define headless_opencv
$(PY) -m pip uninstall --quiet --yes opencv-python opencv-contrib-python opencv-python-headless opencv-contrib-python-headless
$(PIP) --no-deps opencv-contrib-python-headless
endef

$(STAMP)-pose: $(STAMP)-animate
	@echo "Installing what finds people into $(VENV) (once; a minute) ..."
	$(PIP) -e '.[pose]'
	$(headless_opencv)
	@touch $@

$(STAMP)-all: $(STAMP)-animate
	@echo "Installing every extra and the test tools into $(VENV) (once; a few minutes) ..."
	$(PIP) -e '.[all,dev]'
	$(headless_opencv)
	@touch $@ $(STAMP)-pose

demo: $(STAMP)-pose ## a person who speaks and gestures, by the model that comes along: out/demo.mp4
	$(PY) -m semibody demo -o out/demo.mp4

# A MakeHuman data folder gives people textures, hair and garments; without one they are plain.
ASSETS ?= $(wildcard ../shared/assets/makehuman)
data-demo: $(STAMP)-all ## 20 rendered people who speak and gesture: out/data/report.html (ASSETS=folder)
	$(PY) -m semibody data synthesise out/data --people 20 --clips 2 --seconds 3 --size 256 $(if $(ASSETS),--assets $(ASSETS))
	$(PY) -m semibody data inspect out/data

# The starter, from nothing: 300 000 frames, about a day on two cores, 25 GB. Every step continues where it stopped;
# `make starter MINUTES=60` gives the training an hour, the same command again the next one.
STARTER ?= out/starter
PEOPLE  ?= 5000
MINUTES ?= 600
SEMIBODY := $(PY) -m semibody
# Calm heads, because no condition determines where a head moves; wide mouths, because small openings vanish at 256 pixels.
RENDERED := --sway 0.12 --articulation 1.8 --photographed 0.6 $(if $(ASSETS),--assets $(ASSETS))
# With an adversarial loss training is stable only at a smaller learning rate and beta1.
CRITIC := $(foreach s,change=1.0 adversarial=0.08 optimiser.steps=1500 optimiser.lr=1.5e-4 optimiser.beta1=0.5 optimiser.ema=0.995,--set restore.$(s))
starter: $(STAMP)-all ## train the bundled model, from rendered people to its card (PEOPLE= MINUTES=)
	$(SEMIBODY) data people $(STARTER)/packed $(RENDERED) --seed 701 --heads 0.12 --people $(PEOPLE) --seconds 6 --fps 4
	$(SEMIBODY) data people $(STARTER)/packed $(RENDERED) --seed 702 --heads 0.12 --people $(PEOPLE) --seconds 1.5 --fps 24
	$(SEMIBODY) train starter --out $(STARTER)/run --packed $(STARTER)/packed --resume --max-minutes $(MINUTES) \
	  --stage vae --stage keypoints --stage audio --stage lips --stage plate --stage still --set data.fps=4 --set data.gap=5
	$(SEMIBODY) train starter --out $(STARTER)/run --packed $(STARTER)/packed --resume --max-minutes $(MINUTES) \
	  --stage motion --stage restore
	$(SEMIBODY) train starter --out $(STARTER)/sharp --packed $(STARTER)/packed --resume --max-minutes $(MINUTES) \
	  --stage restore --set start.weights=$(STARTER)/run/weights $(CRITIC)
	$(PY) tools/mix_weights.py $(STARTER)/run/weights $(STARTER)/sharp/weights --share 0.75 --out $(STARTER)/mixed
	$(SEMIBODY) weights convert $(STARTER)/mixed $(STARTER)/weights --precision bf16
	$(MAKE) bench-starter WEIGHTS=$(STARTER)/weights
	$(SEMIBODY) model-card $(STARTER)/run --weights $(STARTER)/weights --packed $(STARTER)/packed \
	  --bench $(STARTER)/bench/results.json --notes docs/starter-notes.md --pictures $(STARTER)/weights/starter

# 60 people of a seed that no training set uses.
WEIGHTS ?= starter
bench-starter: $(STAMP)-all ## the starter's numbers against its goals: out/starter/bench (WEIGHTS=folder)
	$(SEMIBODY) data synthesise $(STARTER)/held-out $(RENDERED) --seed 9001 --heads 0 --people 60 --clips 5 --seconds 2
	$(SEMIBODY) bench-quality starter --set weights=$(WEIGHTS) --set cases=$(STARTER)/held-out/manifest.jsonl \
	  --set out=$(STARTER)/bench

# Processes divide the tests better than threads divide one: each has one.
WORKERS ?= 2
test: $(STAMP)-all ## the fast tests, a few minutes (WORKERS= processes)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist worksteal

slow: $(STAMP)-all ## the slow tests: full-size networks, long clips (minutes, 10 GB of memory)
	$(PY) -m pytest -m slow

FUZZ ?= 1000000
fuzz: $(STAMP)-all ## damaged files for every reader, a million of them (FUZZ=); what fails is kept in out/fuzz
	nice $(PY) tests/fuzz/run.py --executions $(FUZZ)

FAULTS ?= 50
faults: $(STAMP)-all ## kills, full disks, refusals at random points of long work (FAULTS= of each kind)
	SEMIBODY_FAULTS=$(FAULTS) OMP_NUM_THREADS=1 nice $(PY) -m pytest --timeout=36000 tests/test_faults.py

MINUTES_LONG ?= 60
endurance: $(STAMP)-animate ## memory and quality of an hour of speech against a minute (MINUTES_LONG=)
	$(PY) benchmarks/endurance.py --minutes 1 $(MINUTES_LONG) --fps 1

# Every direct dependency at the lowest version that pyproject.toml allows, in an environment of its own.
MINIMA ?= $(HOME)/.cache/semibody-minima
minima: $(STAMP)-animate ## a clip made with the stated minima of all dependencies (3 GB; MINIMA=folder)
	$(PIP) uv
	$(PY) -m uv venv --quiet --allow-existing --python $(PY) $(MINIMA)
	$(PY) -m uv pip install --quiet --python $(MINIMA)/bin/python --resolution lowest-direct -e .
	$(MINIMA)/bin/python tools/smoke.py

audit: $(STAMP)-all ## known weaknesses of the installed versions; the versions where no database can be reached
	$(PIP) pip-audit
	$(PY) -m pip_audit --progress-spinner off | grep -v 'could not be audited' || true
	$(PY) -m pip list

parity: $(STAMP)-all ## compare with recorded numbers of the published code (SEMIBODY_GOLDEN=folder)
	$(PY) -m pytest -m parity tests/parity

lint: $(STAMP)-all ## ruff
	$(PY) -m ruff check . && $(PY) -m ruff format --check .

types: $(STAMP)-all ## mypy
	$(PY) -m mypy

sbom: $(STAMP)-animate  ## out/sbom.json: what is installed for animate, as CycloneDX
	$(PY) -m venv $(VENV)/.sbom && $(VENV)/.sbom/bin/python -m pip install --quiet cyclonedx-bom
	@mkdir -p out
	$(VENV)/.sbom/bin/cyclonedx-py environment $(PY) --of JSON -o out/sbom.json
	rm -rf $(VENV)/.sbom

site: $(STAMP)-all ## the documentation as a site: out/site
	$(PY) tools/write_reference.py --check
	$(PIP) -e '.[docs]'
	$(VENV)/bin/zensical build --strict --clean

clean: ## remove the environment and outputs
	rm -rf $(VENV) out

bench-flops: $(STAMP)-animate ## TFLOP of a guided step at 256, 512, 768 as one JSON line
	@$(PY) benchmarks/flops.py

SIZE ?= 256
FRAMES ?= 12
PRECISION ?= bf16
bench-step: $(STAMP)-animate ## seconds of a full-size step: SIZE=256 FRAMES=12 PRECISION=bf16|fp32
	@$(PY) benchmarks/step.py --size $(SIZE) --frames $(FRAMES) --precision $(PRECISION)

bench: bench-flops bench-step ## both of the above

# Lips, hands and identity of a mode against the exact video; ten minutes on two quiet cores.
bench-nearly: $(STAMP)-all ## how far --cache and the like are from the exact video, and what they save
	@OMP_NUM_THREADS=1 $(PY) benchmarks/nearly.py

bench-gpu: $(STAMP)-animate ## everything about this GPU in nine minutes: out/gpu
	$(PY) benchmarks/gpu.py --out out/gpu
