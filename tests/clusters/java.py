"""Command lines of small Java processes."""

from collections.abc import Sequence

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
    *("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"),
    *("-Dorg.slf4j.simpleLogger.showDateTime=true",),
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
]


def java(class_path: str, main: str, arguments: Sequence[str], *options: str) -> list[str]:
    """Returns the command that runs a class, with further options of the JVM."""
    return ["java", *OPTIONS, *options, "-cp", class_path, main, *arguments]
