"""How the tests call Kafka's command line tools. Each call starts a Java machine, about a second."""

import subprocess

from harness import JAVA, java

TOOLS = "org.apache.kafka.tools"


def tool(broker, name, *args, stdin=None):
    """Runs a tool against the broker; gives its standard output."""
    return java(f"{TOOLS}.{name}", "--bootstrap-server", broker.bootstrap, *args, stdin=stdin)


def start_tool(broker, name, *args, **options):
    """Starts a tool that runs until it is ended; gives its process."""
    return subprocess.Popen([*JAVA, f"{TOOLS}.{name}", "--bootstrap-server", broker.bootstrap, *args], **options)


def tool_of_any_exit(broker, name, *args):
    """Runs a tool that may fail; gives all that it says."""
    process = start_tool(broker, name, *args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return process.communicate(timeout=60)[0]


def create(broker, name, partitions=1, **config):
    """Creates a topic; `_` in the name of a config stands for a dot."""
    configs = [part for key, value in config.items() for part in ("--config", f"{key.replace('_', '.')}={value}")]
    tool(broker, "TopicCommand", "--create", "--topic", name, "--partitions", str(partitions), *configs)


def fill(broker, name, lines, *args):
    """Produces each line as a record."""
    tool(broker, "ConsoleProducer", "--topic", name, *args, stdin="".join(f"{line}\n" for line in lines))


def consume(broker, name, count, *args):
    """Reads so many records from the beginning, or from where the group stands; gives the lines."""
    limit = ("--from-beginning", "--max-messages", str(count), "--timeout-ms", "20000")
    return tool(broker, "consumer.ConsoleConsumer", "--topic", name, *limit, *args).splitlines()


def groups(broker, *args):
    """Runs the tool for consumer groups."""
    return tool(broker, "consumer.group.ConsumerGroupCommand", *args)
