"""Command lines of small Java processes, and jars that stand for a class path.

python -m tests.clusters.java flink JAR    # Beam's job server for Flink; or spark
"""

import os
import re
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tests.clusters.downloads import class_path

# Spark, Flink and what they depend on look into these packages, which Java 17 does not allow.
_OPENED = [
    *("java.io", "java.lang", "java.lang.invoke", "java.lang.reflect", "java.net", "java.nio"),
    *("java.text", "java.time", "java.util", "java.util.concurrent", "sun.nio.ch", "sun.nio.cs"),
    *("java.util.concurrent.atomic", "java.util.concurrent.locks", "sun.security.action"),
    "sun.util.calendar",
]
#: A cluster of the tests has more processes than the machine has cores, and each ends soon: one
#: thread to collect garbage, and the quick compiler.
OPTIONS = [
    *("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:-UsePerfData"),
    *("-Dorg.slf4j.simpleLogger.showDateTime=true",),
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
]


JOB_SERVERS = {
    "flink": "org.apache.beam.runners.flink.FlinkJobServerDriver",
    "spark": "org.apache.beam.runners.spark.SparkJobServerDriver",
}

_SUBMITS = re.compile(r"(beam-runners-flink|flink-(clients|java|optimizer|runtime|streaming))-")


def java(jars: str, main: str, arguments: Sequence[str], *options: str) -> list[str]:
    """Returns the command that runs a class, with further options of the JVM."""
    return ["java", *OPTIONS, *options, "-cp", jars, main, *arguments]


def unsent(jars: str) -> tuple[str, str]:
    """Returns the class path of a job server for a Flink whose hosts have the jars, and an option.

    A job server sends all that it finds in its class path to Flink, with every job: 164 MB. What
    follows Java's own jars, by the option of the JVM, it does not find. 10 MB remain: Flink asks
    for the class loader of what submits the job, and Java's own classes have none.
    """
    submitting, others = [], []
    for jar in jars.split(os.pathsep):
        (submitting if _SUBMITS.match(Path(jar).name) else others).append(jar)
    return os.pathsep.join(submitting), f"-Xbootclasspath/a:{os.pathsep.join(others)}"


def write_job_server_jar(jar: Path, engine: str, jars: str) -> None:
    """Writes a jar that starts a job server as ``java -jar``, and refers to the jars of the engine.

    Beam starts the job server so, with few options; the manifest has what Java 17 needs.
    """
    attributes = {
        "Manifest-Version": "1.0",
        "Main-Class": JOB_SERVERS[engine],
        "Class-Path": " ".join(Path(path).as_uri() for path in jars.split(os.pathsep)),
        "Add-Opens": " ".join(f"java.base/{package}" for package in _OPENED),
    }
    lines = [f"{name}: {value}" for name, value in attributes.items()]
    # A line has at most 72 bytes, and is continued by one that begins with a space.
    wrapped = ["\n ".join(line[i : i + 70] for i in range(0, len(line), 70)) for line in lines]
    with zipfile.ZipFile(jar, "w") as file:
        file.writestr("META-INF/MANIFEST.MF", "".join(f"{line}\n" for line in wrapped))


if __name__ == "__main__":
    engine, jar = sys.argv[1:]
    pom = Path(__file__).parent / engine / "pom.xml"
    write_job_server_jar(Path(jar), engine, class_path(pom))
