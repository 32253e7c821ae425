"""A simulated machine: its disk outlives its processes, a process has lives, a life is a Node or one that is set aside.

What the runtime does outside the simulator is small: event loop, sockets, threads and signals. All else is the product:
`Node.turn`, `SetAside.turn`, `open_log`, the log's own writing (kvnode.runtime.writing) on a disk in memory that loses
what was not synced, tears writes, fails, fills up and rots.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from kvnode.config import Config, Member
from kvnode.log import LogOptions, cluster_id, open_log
from kvnode.log.errors import DamageError, DiskError, LogError
from kvnode.node.applying import Applier
from kvnode.node.deeds import Event, Outputs
from kvnode.node.node import Node
from kvnode.node.set_aside import SetAside
from kvnode.runtime.writing import Reading, Writing
from kvnode.store.keyspace import KeySpace
from kvnode.store.limits import Limits
from tests.crash.memory_disk import MODELS, MemoryDisk, PowerCut
from tests.simulation.network import Connection, Network
from tests.simulation.world import Violation, World

DIRECTORY = Path("/data")
EPOCH_MS = 1_700_000_000_000
DRAIN_MS = 4500.0
QUIET = ("log read again", "link dropped")
"""Notes that would fill a trace."""
START_AGAIN_MS = (20.0, 100.0, 500.0)


class Host:
    """`node` is None while the machine is down or set aside; `machine` takes the turns."""

    def __init__(self, world: World, network: Network, member: Member, members: tuple[Member, ...]) -> None:
        self.world = world
        self.network = network
        self.id = member.id
        self.members = members
        self.cluster = cluster_id(each.id for each in members)
        self.random = world.random(f"host {self.id}")
        clock = world.random(f"clock {self.id}")
        self._clock_rate = 1 + clock.uniform(-1, 1) * world.options.clock_drift
        self._clock_offset_ms = clock.choice((0.0, 1e3, 1e9))
        self.disk = MemoryDisk()
        self.life = 0
        self.machine: Node | SetAside | None = None
        self.log: Any = None
        self.is_paused = False
        self.paused_ms = 0.0
        self.wall_offset_ms = 0.0
        self.stopping_since_ms: float | None = None
        self.watch: Callable[[Host], None] = lambda host: None
        """Called after each turn."""
        self.retired: list[MemoryDisk] = []
        """Disks that were wiped."""
        self.forged: set[int] = set()  # checksums of records, and of those that they have replaced
        self.replaced: set[int] = set()
        """Checksums of records that nobody ever wrote, and that were put into this log."""
        self.is_spoiled = False
        """Whether something was ever changed on this disk that nobody had written."""
        self._last_id = 0
        self._forget()

    def _forget(self) -> None:
        self.connections: dict[int, Connection] = {}
        self.clients: dict[int, Connection] = {}
        self._held: dict[int, list[bytes]] = {}
        self._inbox: list[Event] = []
        self._is_turn_due = False
        self._timer_ms: float | None = None
        self._deeds: list[Any] = []
        self._reads: list[Any] = []
        self._is_writing = self._is_reading = False

    def __repr__(self) -> str:
        return repr(self.machine) if self.machine else f"{self.id} is down"

    @property
    def is_up(self) -> bool:
        return self.machine is not None

    @property
    def node(self) -> Node | None:
        return self.machine if isinstance(self.machine, Node) else None

    @property
    def lanes(self) -> tuple[str, ...]:
        return self.machine.lanes if self.machine else ()

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    @property
    def now_ms(self) -> float:
        """Of this machine's monotonic clock."""
        return self.world.now_ms * self._clock_rate + self._clock_offset_ms

    @property
    def wall_ms(self) -> float:
        return EPOCH_MS + self.world.now_ms + self.wall_offset_ms

    @property
    def _whose(self) -> dict[str, Any]:
        return {"cluster_id": self.cluster, "node_id": self.id, "members": [each.id for each in self.members]}

    # Lives

    def start(self) -> None:
        if self.is_up:
            return
        world, options = self.world, self.world.options
        self.life += 1
        self._forget()
        self.is_paused = False
        self.stopping_since_ms = None
        try:
            self._open()
        except DiskError as error:
            self._fail(error)
            return
        except LogError as error:
            if isinstance(error, DamageError) and error.path.name == "identity":
                self.world.count("directories moved away")  # nothing says whose it is: the operator does as advised
                self.wipe()
                self.world.after(self.random.choice(START_AGAIN_MS), self.start)
                return
            if self.disk.room is None:
                raise Violation(f"a node refuses to start: {self.id}: {error}") from error
            self.world.count("starts without room")
            self.world.say(f"{self.id} can not start: {error}")
            self.world.after(self.random.choice(START_AGAIN_MS), self.start)
            return
        node = self.node
        if node is not None:
            node.raft.options = options.raft_options(node.raft.options)
        world.say(f"{self.id} starts life {self.life}: {self.machine!r}")
        for peer in self.network_hosts():
            for lane in ("control", "data", "records"):
                world.after(self.random.random() * 5, self.network.dial, self, self.life, peer, lane)
        self._post_turn()

    def network_hosts(self) -> list[Host]:
        return [host for host in self.all_hosts if host is not self]

    all_hosts: list[Host]

    def _open(self) -> None:
        options = self.world.options
        config = Config(
            self.id,
            DIRECTORY,
            self.members,
            batch_bytes_max=options.batch_bytes_max,
            uncommitted_bytes_max=options.uncommitted_bytes_max,
            catch_up_window_bytes=options.window_bytes,
            heartbeat_ms=options.heartbeat_ms,
            election_timeout_ms=options.election_ms,
            election_timeout_max_ms=2 * options.election_ms,
            scrub_pause_ms=options.scrub_pause_ms,
            trail_ms=options.trail_ms,
        )
        applier = Applier(KeySpace(Limits(config.key_bytes_max, config.value_bytes_max)))

        log_options = LogOptions(segment_bytes=options.segment_bytes, reserve_bytes=options.reserve_bytes)
        random = Random(self.random.getrandbits(64))
        now_ms = self.now_ms
        try:
            recovered = open_log(
                DIRECTORY, **self._whose, options=log_options, files=self.disk, on_record=applier.recover
            )
        except DamageError as damage:
            self._require_spoiled(str(damage))
            if not damage.holes:
                raise
            from kvnode.log.healing.damaged import DamagedLog

            self.log = DamagedLog.open(DIRECTORY, **self._whose, files=self.disk)
            self.world.count("lives set aside")
            self.machine = SetAside(config, self.cluster, tuple(self.log.holes), random=random, now_ms=now_ms)
        else:
            self.log = recovered.log
            if recovered.is_damaged:
                self._require_spoiled("; ".join(recovered.findings))
            self.machine = Node(
                config,
                self.cluster,
                recovered,
                applier,
                log_counters=tuple,
                random=random,
                now_ms=now_ms,
                wall_ms=self.wall_ms,
            )
        self._writing = Writing(self.log, self._post_all, lambda: self.now_ms / 1000)
        self._reader = Reading(self.log, self._post_all)
        self._writing.begin()
        self._retry_writing(self.life)

    def _require_spoiled(self, what: str) -> None:
        """What a crash leaves is no damage: a node that lost nothing keeps its vote."""
        if not self.is_spoiled:
            raise Violation(f"S11 {self.id} takes for damage what a crash has left: {what}")

    def _end(self, *, silently: bool = False, whole: bool = False) -> None:
        self.machine = None
        for table in (self.connections, self.clients):
            for connection in list(table.values()):
                side = connection.side_of(self)
                quiet = silently and connection.is_between_members
                self.network.abandon(connection, side, silently=quiet, whole=whole)
        self._forget()

    def crash(self, *, loses_power: bool) -> None:
        """In the middle of whatever the disk was doing."""
        if not self.is_up:
            return
        self.world.say(f"{self.id} {'loses power' if loses_power else 'is killed'}")
        self._interrupt_writing()
        model = self.random.choice(MODELS) if loses_power else "kept"
        self._lose_cache(model)
        self._end(silently=loses_power)

    def _lose_cache(self, model: str) -> None:
        """The disk that the next life finds; it is as full as it was."""
        room = self.disk.room
        unreadable = {name: file.unreadable for name, file in self.disk.cached.get(str(DIRECTORY), {}).items() if file}
        self.disk = self.disk.after_crash(model, self.random.getrandbits(32))
        for name, file in self.disk.cached.get(str(DIRECTORY), {}).items():
            if file is not None:
                file.unreadable = set(unreadable.get(name, ()))
        self.disk.room = room

    def _interrupt_writing(self) -> None:
        if not self._is_writing or not self._deeds:
            return
        self.disk.stop_at = len(self.disk.calls) + self.random.randint(0, 8)
        with suppress(PowerCut, LogError):
            self._writing.perform(self._deeds)

    def _fail(self, error: BaseException) -> None:
        """The disk failed: the process ends at once. What an fsync did not confirm may be lost."""
        self.world.say(f"{self.id} ends: {error}")
        self.world.count("ended by its disk")
        self._lose_cache(self.random.choice(MODELS))
        self._end()
        self.world.after(self.random.choice(START_AGAIN_MS), self.start)

    def stop(self) -> None:
        """SIGTERM."""
        if self.is_up and self.stopping_since_ms is None and not self.is_paused:
            self.world.say(f"{self.id} is told to stop")
            self.stopping_since_ms = self.world.now_ms
            self.post("on_shutdown")
            self.world.after(DRAIN_MS, self._post_turn)

    def _maybe_stopped(self) -> bool:
        since_ms, machine = self.stopping_since_ms, self.machine
        if since_ms is None or machine is None:
            return False
        is_late = self.world.now_ms - since_ms >= DRAIN_MS
        if not is_late and (not machine.is_drained or self._inbox):
            return False
        with suppress(LogError):
            self._writing.perform(self._deeds)
            self.log.close()
        self.world.say(f"{self.id} has stopped")
        self._lose_cache("kept")
        self._end(whole=True)
        self.world.after(self.random.uniform(50, 1500), self.start)
        return True

    def pause(self) -> None:
        """SIGSTOP."""
        if self.is_up and not self.is_paused:
            self.world.say(f"{self.id} is paused")
            self.is_paused = True
            self._paused_at_ms = self.world.now_ms

    def resume(self, life: int) -> None:
        if self.is_paused and self.life == life:
            self.world.say(f"{self.id} goes on")
            self.is_paused = False
            self.paused_ms += self.world.now_ms - self._paused_at_ms
            self._post_turn()

    def wipe(self) -> None:
        """A new disk in a machine that is down."""
        self.world.say(f"{self.id} is wiped")
        self.retired.append(self.disk)
        self.disk = MemoryDisk()

    # Turns

    def post(self, handler: str, *arguments: Any) -> None:
        self._inbox.append((handler, arguments))
        self._post_turn()

    def _post_all(self, events: list[Event]) -> None:
        self._inbox += events
        self._post_turn()

    def _post_turn(self) -> None:
        if self.is_up and not self._is_turn_due:
            self._is_turn_due = True
            self.world.after(self.random.random() * 0.1, self._turn, self.life)

    def _on_timer(self, life: int, due_ms: float) -> None:
        if self.life == life and self._timer_ms == due_ms:
            self._timer_ms = None
            self._post_turn()

    def _turn(self, life: int) -> None:
        if self.life != life or self.machine is None:
            return
        self._is_turn_due = False
        if self.is_paused:
            return
        events, self._inbox = self._inbox, []
        self.world.events += len(events) + 1
        outputs = self.machine.turn(self.now_ms, self.wall_ms, events)
        self.watch(self)
        self._carry_out(outputs)
        if outputs.restart:
            self._restart()
            return
        if outputs.wants_turn:
            self._post_turn()
        wait_ms = (outputs.deadline_ms - self.now_ms) / self._clock_rate
        due_ms = self.world.now_ms + max(wait_ms, 0.01)
        if due_ms < 1e15 and (self._timer_ms is None or self._timer_ms > due_ms):
            self._timer_ms = due_ms
            self.world.at(due_ms, self._on_timer, self.life, due_ms)
        self._maybe_stopped()

    def _restart(self) -> None:
        """As the runtime: everything is closed, the log is opened anew in the same process."""
        self.world.count("restarts in the process")
        with suppress(LogError):
            self.log.close()
        self._end(whole=True)
        self.start()

    def _carry_out(self, outputs: Outputs) -> None:
        if outputs.disk:
            self._deeds += outputs.disk
            self._go_on_writing()
        if outputs.reads:
            self._reads += outputs.reads
            self._go_on_reading()
        for link_id, data in outputs.link_writes:
            if link_id in self.connections:
                connection = self.connections[link_id]
                self.network.write(connection, connection.side_of(self), data)
        for session_id, data in outputs.client_writes:
            if session_id in self.clients:
                self.network.write(self.clients[session_id], 1, data)
        for session_id in outputs.client_pauses:
            if session_id in self.clients:
                self._held.setdefault(session_id, [])
                self.clients[session_id].was_held = True
        for session_id in outputs.client_resumes:
            for data in self._held.pop(session_id, ()):
                self.post("on_client_bytes", session_id, data)
        for session_id in outputs.client_closes:
            if session_id in self.clients:
                self.network.close(self.clients.pop(session_id), 1)
                self.post("on_client_gone", session_id)
        for link_id in outputs.link_closes:
            if link_id in self.connections:
                connection = self.connections.pop(link_id)
                self.network.close(connection, connection.side_of(self))
                self.post("on_link_closed", link_id)
        for level, event, fields in outputs.notes:
            if not event.startswith(QUIET):
                self.world.say(f"{self.id} {level} {event} {fields}")

    # The disk

    def _delay_ms(self) -> float:
        options = self.world.options
        if self.world.is_faulty and self.random.random() < options.disk_stall_chance:
            self.world.count("disk stalls")
            return self.random.choice((100.0, 600.0, 2500.0, 6000.0))
        return self.random.expovariate(1 / options.disk_ms)

    def _go_on_writing(self) -> None:
        if not self._is_writing and self._deeds:
            self._is_writing = True
            self.world.after(self._delay_ms(), self._write, self.life)

    def _write(self, life: int) -> None:
        if self.life != life or not self.is_up:
            return
        if self.is_paused:
            self.world.after(50, self._write, life)
            return
        self._is_writing = False
        deeds, self._deeds = self._deeds, []
        try:
            self._writing.perform(deeds)
        except DiskError as error:
            self._fail(error)
            return
        self._go_on_writing()
        self._retry_writing(life)

    def _retry_writing(self, life: int) -> None:
        pause_s = self._writing.pause_s
        if pause_s is not None:
            self.world.after(pause_s * 1000, self._pause_writing, life)

    def _pause_writing(self, life: int) -> None:
        if self.life != life or not self.is_up or self._is_writing:
            return
        try:
            self._writing.pause()
        except DiskError as error:
            self._fail(error)
            return
        self._retry_writing(life)

    def _go_on_reading(self) -> None:
        if not self._is_reading and self._reads:
            self._is_reading = True
            self.world.after(self._delay_ms(), self._read, self.life)

    def _read(self, life: int) -> None:
        if self.life != life or not self.is_up:
            return
        self._is_reading = False
        reads, self._reads = self._reads, []
        try:
            self._reader.perform(reads)
        except DiskError as error:
            self._fail(error)
            return
        self._go_on_reading()

    # Connections

    def on_dialed(self, connection: Connection) -> None:
        self.connections[connection.ids[0]] = connection
        self.post("on_dialed", connection.ids[0], connection.ends[1].id, connection.lane, "sim")

    def on_accepted(self, connection: Connection) -> None:
        self.connections[connection.ids[1]] = connection
        self.post("on_accepted", connection.ids[1], "sim")

    def on_client(self, connection: Connection) -> None:
        self.clients[connection.ids[1]] = connection
        if self.node is not None:
            self.post("on_client", connection.ids[1], "client")

    def on_data(self, connection: Connection, data: bytes) -> None:
        side = connection.side_of(self)
        if connection.lives[side] != self.life or not self.is_up:
            return
        number = connection.ids[side]
        if connection.is_between_members:
            self.post("on_link_bytes", number, data)
        elif self.node is None:
            self.network.close(self.clients.pop(number), 1)  # set aside: it would hear -LOADING
        elif number in self._held or self.stopping_since_ms is not None:
            self._held.setdefault(number, []).append(data)
        else:
            self.post("on_client_bytes", number, data)

    def on_closed(self, connection: Connection) -> None:
        side = connection.side_of(self)
        if connection.lives[side] != self.life or not self.is_up:
            return
        if connection.is_between_members:
            if self.connections.pop(connection.ids[side], None) is not None:
                self.post("on_link_closed", connection.ids[side])
        elif self.clients.pop(connection.ids[1], None) is not None and self.node is not None:
            self.post("on_client_gone", connection.ids[1])
