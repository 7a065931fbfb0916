"""The scores of ``policies.fleet.placement`` over arrays: only what a placement changed is computed again."""

from __future__ import annotations

import math

import numpy as np

from policies.packing.arrays import GPU_CELL, WHOLE, Fleet, Floats, Game, Ints, Kinds, Typical
from policies.packing.compiled import compiled

MOST_CPU = 128_000
MOST_MILLIS = 8_000
NEVER = -(2**62)
"""Score of a node on which the task does not fit."""
TAGS = 9
"""Kinds of running GPU tasks that gpu_clustering tells apart: shared, then one to eight devices."""

FGD, BEST_FIT, DOT_PROD, GPU_PACKING, GPU_CLUSTERING, RANDOM, PARTAGE = range(7)


@compiled
def take(fleet: Fleet, node: int, kinds: Kinds, kind: int, device: int) -> None:
    """Put the task on the node: its device, or the lowest fully free ones."""
    cpu, memory, _, devices, left, owner, tags = fleet
    wanted, millis, domain = kinds.devices[kind], kinds.millis[kind], kinds.domain[kind]
    cpu[node] -= kinds.cpu[kind]
    memory[node] -= kinds.memory[kind]
    if wanted == 0:
        return
    tags[node, 0 if millis < WHOLE else wanted] += 1
    if millis < WHOLE:
        left[node, device] -= millis
        owner[node, device] = domain
        return
    for one in range(devices[node]):
        if wanted > 0 and left[node, one] == WHOLE and (owner[node, one] < 0 or owner[node, one] == domain):
            left[node, one] = 0
            owner[node, one] = domain
            wanted -= 1


@compiled
def give_back(fleet: Fleet, node: int, kinds: Kinds, kind: int, device: int) -> None:
    """Take a task that shares a device, or needs none, from the node again."""
    fleet.cpu[node] += kinds.cpu[kind]
    fleet.memory[node] += kinds.memory[kind]
    if device >= 0:
        fleet.tags[node, 0] -= 1
        fleet.left[node, device] += kinds.millis[kind]
        if fleet.left[node, device] == WHOLE:
            fleet.owner[node, device] = -1


@compiled
def count_open(game: Game, kind: int, count: int) -> None:
    """Write for each node in ``todo`` how many devices have room for the task's share: -1 if it does not fit there."""
    cpu, memory, model, devices, left, owner, _ = game.fleet
    kinds, todo, room = game.kinds, game.board.todo, game.board.room
    cpus, memories, wanted, millis = kinds.cpu[kind], kinds.memory[kind], kinds.devices[kind], kinds.millis[kind]
    models, domain = kinds.models[kind], kinds.domain[kind]
    for entry in range(count):
        node = todo[entry]
        room[entry] = -1
        if cpu[node] < cpus or memory[node] < memories or (wanted > 0 and not (models >> model[node]) & 1):
            continue
        number = 0
        for one in range(devices[node]):
            number += left[node, one] >= millis and (owner[node, one] < 0 or owner[node, one] == domain)
        if number >= wanted:
            room[entry] = number


@compiled
def fragment(model: int, cpu: int, left: Ints, typical: Typical) -> float:
    """Return the idle millis that the expected mix cannot use; see ``policies.fleet.placement.fragment``."""
    cpus, wanted, sizes, models, share = typical
    idle = 0
    for one in range(len(left)):
        idle += left[one]
    by_cause = np.zeros(6)
    for m in range(len(cpus)):
        lacks_cpu = cpu < cpus[m]
        if wanted[m] == 0:
            by_cause[4 if lacks_cpu else 3] += share[m] * idle
        elif not (models[m] >> model) & 1:
            by_cause[5] += share[m] * idle
        else:
            count, below = count_fitting(left, sizes[m])
            if count < wanted[m]:
                by_cause[0 if lacks_cpu else 1] += share[m] * idle
            elif lacks_cpu:
                by_cause[2] += share[m] * idle
            else:
                by_cause[1] += share[m] * below
    return float(by_cause[0] + by_cause[1] + by_cause[2] + by_cause[3] + by_cause[4] + by_cause[5])


@compiled
def count_fitting(left: Ints, millis: int) -> tuple[int, int]:
    """Return how many devices have so many millis idle, and the idle millis of the others."""
    count = below = 0
    for one in range(len(left)):
        if left[one] >= millis:
            count += 1
        else:
            below += left[one]
    return count, below


@compiled
def score_by_worth(game: Game, kind: int, count: int) -> None:
    """Score nodes by what their worth changes by, in millionths of a GPU; the device keeps most of it."""
    cpu, _, model, devices, left, owner, _ = game.fleet
    holes, stranded, blocks, scarcity, cpu_cell = game.prices
    kinds, board, todo, room = game.kinds, game.board, game.board.todo, game.board.room
    cpus, wanted, millis, domain = kinds.cpu[kind], kinds.devices[kind], kinds.millis[kind], kinds.domain[kind]
    score, device = board.score[kind], board.device[kind]
    for entry in range(count):
        node = todo[entry]
        best, chosen = NEVER, -1
        if room[entry] >= 0:
            kind_of_gpu = model[node]
            idle = free = 0
            for one in range(devices[node]):
                idle += left[node, one]
                free += left[node, one] == WHOLE
            cell, cell_after = cpu[node] // cpu_cell, (cpu[node] - cpus) // cpu_cell
            premium = scarcity[kind_of_gpu]
            before = idle * premium - stranded[idle // GPU_CELL, cell] + blocks[free, cell]
            if wanted == 0 or millis == WHOLE:
                idle -= wanted * WHOLE
                after = idle * premium - stranded[idle // GPU_CELL, cell_after] + blocks[free - wanted, cell_after]
                best = after - before - wanted * holes[kind_of_gpu, WHOLE]
            else:
                idle -= millis
                after = idle * premium - stranded[idle // GPU_CELL, cell_after]
                for one in range(devices[node]):
                    here = left[node, one]
                    if here >= millis and (owner[node, one] < 0 or owner[node, one] == domain):
                        change = holes[kind_of_gpu, here - millis] - holes[kind_of_gpu, here]
                        value = after - before + change + blocks[free - (here == WHOLE), cell_after]
                        if value > best:
                            best, chosen = value, one
        score[node] = best
        device[node] = chosen


@compiled
def score_by_fragment(game: Game, kind: int, count: int) -> None:
    """Score nodes as FGD does, 0..100; the device is the first that reaches the best score."""
    cpu, _, model, devices, left, owner, _ = game.fleet
    kinds, typical, board, todo, room = game.kinds, game.typical, game.board, game.board.todo, game.board.room
    cpus, wanted, millis, domain = kinds.cpu[kind], kinds.devices[kind], kinds.millis[kind], kinds.domain[kind]
    score, device = board.score[kind], board.device[kind]
    for entry in range(count):
        node = todo[entry]
        best, chosen, tried, missing = NEVER, -1, -1, wanted
        if room[entry] >= 0:
            after = left[node, : devices[node]].copy()
            before = fragment(model[node], cpu[node], after, typical)
            for one in range(devices[node]):
                here = after[one]
                is_open = wanted > 0 and here >= millis and (owner[node, one] < 0 or owner[node, one] == domain)
                if is_open and millis == WHOLE and missing > 0:
                    after[one] = 0
                    missing -= 1
                elif is_open and millis < WHOLE and here != tried:
                    tried = here
                    after[one] = here - millis
                    value = fgd_score(before - fragment(model[node], cpu[node] - cpus, after, typical))
                    after[one] = here
                    if value > best:
                        best, chosen = value, one
            if chosen < 0:
                best = fgd_score(before - fragment(model[node], cpu[node] - cpus, after, typical))
        score[node] = best
        device[node] = chosen


@compiled
def fgd_score(gain: float) -> int:
    """Return 0..100 for a fragment that shrinks by ``gain`` millis: 50 when it stays as it is."""
    return int(100 * (1 / (1 + math.exp(-gain / 1000))))


@compiled
def score_by_size(game: Game, kind: int, count: int, policy: int) -> None:
    """Score nodes by the published rules that look only at sizes, 0..100, and name the tightest fitting device."""
    cpu, _, _, devices, left, owner, tags = game.fleet
    kinds, board, todo, room = game.kinds, game.board, game.board.todo, game.board.room
    cpus, wanted, millis, domain = kinds.cpu[kind], kinds.devices[kind], kinds.millis[kind], kinds.domain[kind]
    for entry in range(count):
        node = todo[entry]
        value, chosen, idle = NEVER, -1, 0
        if room[entry] >= 0:
            for one in range(devices[node]):
                here = left[node, one]
                idle += here
                is_open = here >= millis and (owner[node, one] < 0 or owner[node, one] == domain)
                if wanted > 0 and millis < WHOLE and is_open and (chosen < 0 or here < left[node, chosen]):
                    chosen = one
            tightest = left[node, chosen] if chosen >= 0 else WHOLE
            value = 0
            if policy == BEST_FIT:
                value = best_fit(cpu[node] - cpus, idle - wanted * millis)
            elif policy == DOT_PROD:
                value = dot_prod(cpu[node], cpus, idle, wanted * millis)
            elif policy == GPU_PACKING and wanted > 0:
                value = gpu_packing(devices[node], idle, wanted if millis == WHOLE else 1, tightest)
            elif policy == GPU_CLUSTERING and wanted > 0:
                value = gpu_clustering(tags[node], 0 if millis < WHOLE else wanted, idle)
        board.score[kind, node] = value
        board.device[kind, node] = chosen


@compiled
def best_fit(cpu_after: int, idle_after: int) -> int:
    """Return 0..100: the less is left, the higher."""
    return max(0, int(100 * (1 - 0.5 * (cpu_after / MOST_CPU) - 0.5 * (idle_after / MOST_MILLIS))))


@compiled
def dot_prod(cpu: int, cpu_asked: int, idle: int, asked: int) -> int:
    """Return 0..100: the less what is left points the way of what is asked, the higher."""
    alike = (cpu / MOST_CPU) * (cpu_asked / MOST_CPU) + (idle / MOST_MILLIS) * (asked / MOST_MILLIS)
    return max(0, int(100 * (1 - 0.5 * alike)))


@compiled
def gpu_packing(devices: int, idle: int, whole: int, tightest: int) -> int:
    """Return 0..100: shared devices first, then free devices of busy nodes, then idle nodes."""
    if idle == devices * WHOLE:
        return int(max(33 - devices, devices))
    if tightest == WHOLE:
        return int(max(50 - whole, 33))
    return int(max(100 - tightest * 100 // WHOLE // 10, 50))


@compiled
def gpu_clustering(tags: Ints, tag: int, idle: int) -> int:
    """Return 0..100: nodes that run only the same kind of GPU task first, then mixed, then idle ones."""
    running = 0
    for one in range(len(tags)):
        running += tags[one] > 0
    base = 25 if running == 0 else 0
    if tags[tag] > 0:
        base = 75 if running == 1 else 50
    return base + int(25 * (MOST_MILLIS - idle) / MOST_MILLIS)


@compiled
def scatter(seed: int, step: int, node: int) -> int:
    """Return a number in 0..2^31-1 that looks random and depends on nothing else."""
    x = (seed * 1_000_003 + step) * 1_000_003 + node
    for _ in range(3):
        x = (x ^ (x >> 15)) * 0x2C1B3C6D % 0x7FFFFFFF
    return x


@compiled
def refresh(game: Game, kind: int, logged: int, step: int, policy: int) -> None:
    """Bring the scores of one kind up to date: all of them the first time, later only where something changed."""
    board, todo, log, stamp = game.board, game.board.todo, game.board.log, game.board.stamp
    count = 0
    if board.seen[kind] < 0:
        count = len(todo)
        for node in range(count):
            todo[node] = node
    else:
        for entry in range(board.seen[kind], logged):
            if stamp[log[entry]] != step:
                stamp[log[entry]] = step
                todo[count] = log[entry]
                count += 1
    board.seen[kind] = logged
    count_open(game, kind, count)
    if policy == PARTAGE:
        score_by_worth(game, kind, count)
    elif policy == FGD:
        score_by_fragment(game, kind, count)
    else:
        score_by_size(game, kind, count, policy)


@compiled
def choose(game: Game, kind: int, step: int, policy: int, seed: int) -> tuple[int, int]:
    """Return the node of highest score, smallest rank on ties, and the device; -1 if the task fits nowhere."""
    best, top, scores = -1, NEVER, game.board.score[kind]
    for node in range(len(scores)):
        if scores[node] > top:
            best, top = node, scores[node]
    if policy != RANDOM or best < 0:
        return best, int(game.board.device[kind, best]) if best >= 0 else -1
    top = -1
    for node in range(len(scores)):
        if scores[node] != NEVER and scatter(seed, step, node) > top:
            best, top = node, scatter(seed, step, node)
    return best, random_device(game, best, kind, seed + 1, step)


@compiled
def random_device(game: Game, node: int, kind: int, seed: int, step: int) -> int:
    """Return one of the devices that fit a shared task, as if drawn; -1 for whole devices or none."""
    fleet, kinds = game.fleet, game.kinds
    chosen, top = -1, -1
    millis, domain = kinds.millis[kind], kinds.domain[kind]
    if kinds.devices[kind] == 0 or millis == WHOLE:
        return chosen
    for one in range(fleet.devices[node]):
        owner = fleet.owner[node, one]
        draw = scatter(seed, step, one)
        if fleet.left[node, one] >= millis and (owner < 0 or owner == domain) and draw > top:
            chosen, top = one, draw
    return chosen


@compiled
def play(game: Game, start: int, stop: int, logged: int, policy: int, seed: int) -> int:
    """Place the arrivals ``start`` to ``stop`` in order, write where each went, return the length of the log."""
    for step in range(start, stop):
        kind = game.arrivals[step]
        refresh(game, kind, logged, step, policy)
        node, device = choose(game, kind, step, policy, seed)
        game.nodes[step] = node
        game.devices[step] = device
        if node >= 0:
            take(game.fleet, node, game.kinds, kind, device)
            game.board.log[logged] = node
            logged += 1
    return logged


@compiled
def play_until_failure(game: Game, start: int, stop: int, logged: int) -> tuple[int, int]:
    """Place arrivals by worth until one fits nowhere; return its step, or ``stop``, and the length of the log."""
    for step in range(start, stop):
        logged = play(game, step, step + 1, logged, PARTAGE, 0)
        if game.nodes[step] < 0:
            return step, logged
    return stop, logged


@compiled
def fragments(game: Game) -> Floats:
    """Return the fleet's fragment in millis after each arrival of a finished run, played again on ``fleet``."""
    cpu, _, model, devices, left, _, _ = game.fleet
    of_node = np.empty(len(cpu))
    for node in range(len(of_node)):
        of_node[node] = fragment(model[node], cpu[node], left[node, : devices[node]], game.typical)
    total = of_node.sum()
    result = np.empty(len(game.arrivals))
    for step in range(len(result)):
        node = game.nodes[step]
        if node >= 0:
            take(game.fleet, node, game.kinds, game.arrivals[step], game.devices[step])
            now = fragment(model[node], cpu[node], left[node, : devices[node]], game.typical)
            total += now - of_node[node]
            of_node[node] = now
        result[step] = total
    return result
