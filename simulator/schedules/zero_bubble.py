"""Zero-bubble schedules: weight gradients wait, and fill what would be idle (Qi et al., arXiv:2401.10241)."""

from simulator.schedules.chunk import Chunk, Orders


def zb_h1(stages: int, micro_batches: int) -> Orders:
    """Return ZB-H1: 1F1B whose stage s puts off each weight gradient by s micro-batches (section 2.2).

    Every stage then holds the activations of as many micro-batches as 1F1B's first. With forward, input and weight
    gradient taking equally long, it is the schedule that is also called ZB-1P.
    """
    orders = []
    for stage in range(stages):
        warm = min(stages - 1 - stage, micro_batches)
        order = [Chunk("F", 0, m) for m in range(warm)]
        for m in range(micro_batches):
            if warm + m < micro_batches:
                order.append(Chunk("F", 0, warm + m))
            order.append(Chunk("I", 0, m))
            if m >= stage:
                order.append(Chunk("W", 0, m - stage))
        order += [Chunk("W", 0, m) for m in range(max(micro_batches - stage, 0), micro_batches)]
        orders.append(order)
    return orders


def zb_h2(stages: int, micro_batches: int) -> Orders:
    """Return ZB-H2: twice the activations in flight, so that no stage waits once it has begun (section 2.3).

    The order is the one found when forward, input and weight gradient take one unit each and every stage runs the first
    of these that it can: an input gradient, a forward while fewer than 2 x stages - 1 micro-batches are held, a weight
    gradient.
    """
    ended: dict[tuple[str, int, int], int] = {}
    done = [{"F": 0, "I": 0, "W": 0} for _ in range(stages)]
    orders: Orders = [[] for _ in range(stages)]

    def ready(kind: str, stage: int, now: int) -> bool:
        mine = done[stage]
        m = mine[kind]
        if kind == "W":
            return m < mine["I"]
        if m == micro_batches or (kind == "F" and m - mine["W"] >= 2 * stages - 1):
            return False
        if kind == "F":
            return stage == 0 or ended.get(("F", stage - 1, m), now + 1) <= now
        before = ("F", stage, m) if stage == stages - 1 else ("I", stage + 1, m)
        return ended.get(before, now + 1) <= now

    now = 0
    while any(mine["W"] < micro_batches for mine in done):
        chosen = [next((kind for kind in "IFW" if ready(kind, stage, now)), "") for stage in range(stages)]
        now += 1
        for stage, kind in enumerate(chosen):
            if kind:
                m = done[stage][kind]
                orders[stage].append(Chunk(kind, 0, m))
                ended[kind, stage, m] = now
                done[stage][kind] += 1
    return orders
