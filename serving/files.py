"""The server's files beside the models: the list of models, batching, metrics, and how to start
TensorFlow Serving's official image."""

from pathlib import Path

BATCHES = (1, 8, 32)  # batch sizes: the server pads to them, and each has a warm-up request
METRICS = "/monitoring/prometheus/metrics"
HEADER = "# Written by --mode=export, which overwrites it: make a copy before you change it.\n"

MODEL = """\
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 2 }} }}
  }}
"""

BATCHING = """\
# Requests in one batch fail together: start without --enable_batching if untrusted clients send
# encoded pictures.
max_batch_size {{ value: {most} }}
batch_timeout_micros {{ value: 2000 }}
max_enqueued_batches {{ value: 100 }}
num_batch_threads {{ value: 4 }}
{allowed}"""

MONITORING = f"""\
prometheus_config {{
  enable: true
  path: "{METRICS}"
}}
"""

ARGUMENTS = (
    "--model_config_file=/models/models.config",
    "--model_config_file_poll_wait_seconds=60",
    "--enable_batching=true",
    "--batching_parameters_file=/models/batching.config",
    "--monitoring_config_file=/models/monitoring.config",
    "--enable_model_warmup=true",
)

COMPOSE = """\
# docker compose up: gRPC on 8500, REST on 8501.
#   health   http://localhost:8501/v1/models/{first}
#   metrics  http://localhost:8501{metrics}
services:
  serving:
    image: tensorflow/serving:${{TF_SERVING:-latest}}
    command:
{arguments}
    ports: ["8500:8500", "8501:8501"]
    volumes: [".:/models:ro"]
    restart: unless-stopped
    healthcheck:
      # the image has no curl
      test:
        - CMD
        - bash
        - -c
        - >-
          exec 3<>/dev/tcp/localhost/8501 &&
          printf 'GET /v1/models/{first} HTTP/1.0\\r\\n\\r\\n' >&3 &&
          grep -q AVAILABLE <&3
      interval: 10s
      start_period: 120s
"""

KUBERNETES = """\
# kubectl apply -f kubernetes.yaml, once this folder is on the volume claimed as `models`.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: serving
spec:
  selector:
    matchLabels: {{app: serving}}
  template:
    metadata:
      labels: {{app: serving}}
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: "8501"
        prometheus.io/path: {metrics}
    spec:
      containers:
        - name: serving
          image: tensorflow/serving:latest
          args:
{arguments}
          ports:
            - {{name: grpc, containerPort: 8500}}
            - {{name: rest, containerPort: 8501}}
          startupProbe:
            httpGet: {{path: /v1/models/{first}, port: rest}}
            failureThreshold: 60
          readinessProbe:
            httpGet: {{path: /v1/models/{first}, port: rest}}
          volumeMounts:
            - {{name: models, mountPath: /models, readOnly: true}}
      volumes:
        - name: models
          persistentVolumeClaim: {{claimName: models}}
---
apiVersion: v1
kind: Service
metadata:
  name: serving
spec:
  selector: {{app: serving}}
  ports:
    - {{name: grpc, port: 8500, targetPort: grpc}}
    - {{name: rest, port: 8501, targetPort: rest}}
"""


def is_saved_model(folder):
    """Whether a folder is a SavedModel."""
    return any((Path(folder) / f"saved_model.{end}").is_file() for end in ("pb", "pbtxt"))


def is_version(path):
    """Whether a path is a version: a SavedModel whose name is a whole number from 1, without
    leading zeros, that fits int64."""
    name = path.name
    is_number = name.isascii() and name.isdecimal() and name[0] != "0" and int(name) < 2**63
    return is_number and is_saved_model(path)


def versions(home):
    """The versions of a model, integers in ascending order."""
    return sorted(int(p.name) for p in Path(home).iterdir() if is_version(p))


def homes(root):
    """The folders in a folder that are not hidden: each may be a model's."""
    return [p for p in sorted(Path(root).iterdir()) if p.is_dir() and p.name[0] != "."]


def models(root):
    """{name: versions} of the models in a folder."""
    numbers = {home.name: versions(home) for home in homes(root)}
    return {name: all_versions for name, all_versions in numbers.items() if all_versions}


def skipped(root):
    """The paths in a folder that look like versions of its models and are none."""
    paths = [p for home in homes(root) for p in sorted(home.iterdir()) if p.name[0] != "."]
    return [p for p in paths if (p.is_dir() or p.name.isdecimal()) and not is_version(p)]


def write(root):
    """Writes the server's files for all models in a folder."""
    from ..common.files import write_file  # serving.local runs without the other rooms

    names = list(models(root))

    def arguments(indent):
        return "\n".join(f"{' ' * indent}- {argument}" for argument in ARGUMENTS)

    fields = {"first": names[0], "metrics": METRICS}
    allowed = "".join(f"allowed_batch_sizes: {size}\n" for size in BATCHES)
    entries = "".join(MODEL.format(name=name) for name in names)
    texts = {
        "models.config": f"model_config_list {{\n{entries}}}\n",
        "batching.config": BATCHING.format(most=max(BATCHES), allowed=allowed),
        "monitoring.config": MONITORING,
        "docker-compose.yml": COMPOSE.format(arguments=arguments(6), **fields),
        "kubernetes.yaml": KUBERNETES.format(arguments=arguments(12), **fields),
    }
    for name, text in texts.items():
        write_file(Path(root) / name, (HEADER + text).encode())
