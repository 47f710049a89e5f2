"""What befalls a cluster, one thing after the other, each chosen and timed by a seed."""

import os
import subprocess
import time

from brokers import Cuts, can_cut, wait_until

MARGIN_S = 0.5


class Nemesis:
    """Does something bad, holds it for a while, and makes it good again."""

    def __init__(self, cluster, chance, topic, transform=None):
        self.cluster, self.chance, self.topic, self.transform = cluster, chance, topic, transform
        self.cuts = Cuts() if can_cut() else None
        self.told = []
        self.faults = [self.kill, self.pause, self.restart, self.rolling_restart, self.move_partitions]
        if transform:
            self.faults += [transform.change, transform.change]
        if self.cuts:
            self.faults += [self.part_one, self.part_one_way, self.part_quorum, self.lossy]
        if any(node.environment for node in cluster.nodes.values()):
            self.faults.append(self.jump)
        if cluster.small:
            self.faults.append(self.fill)

    def once(self):
        """One fault, for a few seconds."""
        fault = self.chance.choice(self.faults)
        began = time.monotonic()
        what = fault()
        self.told.append((fault.__name__, what))
        print(f"{fault.__name__}: {what} ({time.monotonic() - began:.1f} s)", flush=True)

    def hold(self):
        time.sleep(self.chance.uniform(0.5, 4))

    def any(self):
        return self.chance.choice([node for node in self.cluster.nodes.values() if node.is_up()])

    def leader(self):
        partitions = self.cluster.partitions(self.topic)
        leaders = [p.leader for p in partitions.values() if p.leader in self.cluster.nodes]
        return self.cluster.nodes[self.chance.choice(leaders)] if leaders else self.any()

    def one_of(self):
        return self.leader() if self.chance.random() < 0.7 else self.any()

    def kill(self):
        node = self.one_of()
        node.kill()
        self.hold()
        node.start()
        return node.number

    def pause(self):
        node = self.one_of()
        node.pause()
        self.hold()
        node.go_on()
        return node.number

    def restart(self):
        node = self.one_of()
        assert node.terminate() == 0, f"broker {node.number} did not end in good order"
        node.start()
        return node.number

    def rolling_restart(self):
        for node in self.cluster.nodes.values():
            assert node.terminate() == 0, f"broker {node.number} did not end in good order"
            node.start()
            self.cluster.wait_in_sync(self.topic, seconds=60)
        return "all"

    def part_one(self):
        node = self.one_of()
        for other in self.cluster.nodes.values():
            if other is not node:
                self.cuts.both_ways(node, other)
        self.hold()
        self.cuts.heal()
        return node.number

    def part_one_way(self):
        node, deaf = self.one_of(), self.chance.random() < 0.5
        for other in self.cluster.nodes.values():
            if other is not node:
                self.cuts.one_way(*((other, node) if deaf else (node, other)))
        self.hold()
        self.cuts.heal()
        return f"{node.number} {'deaf' if deaf else 'mute'}"

    def part_quorum(self):
        """Nobody reaches anybody: no quorum at all."""
        nodes = list(self.cluster.nodes.values())
        for at, node in enumerate(nodes):
            for other in nodes[at + 1 :]:
                self.cuts.both_ways(node, other)
        self.hold()
        self.cuts.heal()
        return "all"

    def lossy(self):
        for node in self.cluster.nodes.values():
            self.cuts.lose(node, 1)
        self.hold()
        self.hold()
        self.cuts.heal()
        return "1 %"

    def jump(self):
        node, seconds = self.any(), self.chance.choice([-3600, 3600, 5])
        with open(node.environment["CLOCK_JUMP_FILE"], "w") as file:
            file.write(str(seconds))
        self.hold()
        if self.chance.random() < 0.5:
            with open(node.environment["CLOCK_JUMP_FILE"], "w") as file:
                file.write("0")
        return f"{node.number} by {seconds} s"

    def fill(self):
        """One broker's disk has no space left, then has again."""
        number = self.chance.choice(sorted(self.cluster.small))
        ballast = self.cluster.small[number] / "ballast"
        free = os.statvfs(ballast.parent)
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=1M", f"count={free.f_bavail * free.f_frsize >> 20}"], capture_output=True)
        self.hold()
        ballast.unlink()
        return number

    def move_partitions(self):
        """Every partition gets its replicas in another order, or on other brokers where there are more."""
        brokers = [node.number for node in self.cluster.nodes.values()]
        wanted = []
        for partition in self.cluster.partitions(self.topic):
            replicas = self.chance.sample(brokers, 3)
            wanted.append(replicas)
            text = f"{partition}:{','.join(map(str, replicas))}"
            done = self.cluster.admin("topic", "reassign", self.topic, "--replicas", text, check=False)
            if done.returncode != 0:
                return f"refused: {done.stderr.strip()[:100]}"
        return wanted

    def heal(self):
        """Everything is up and reachable again, and in sync."""
        if self.cuts:
            self.cuts.heal()
        for node in self.cluster.nodes.values():
            if node.is_up():
                node.go_on()
            else:
                node.start()
        wait_until(lambda: self.cluster.partitions(self.topic), 30, "the cluster answers")
        self.cluster.wait_in_sync(self.topic, seconds=60)
        if self.transform:
            self.transform.resume()
