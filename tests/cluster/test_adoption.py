"""What runs after a lost journal is accounted for by claims that a person can apply."""

from cluster.adoption import adoption
from policies.model.catalogue import Model, Variant
from policies.model.inventory import Device, Group
from policies.model.snapshot import Snapshot
from policies.model.workload import Claim, ClaimKind, Shape

FULL, SMALL = (Shape(flavors=("H100",), variant=name) for name in ("m-f16", "m-q8"))
MODEL = Model(
    id="m",
    context_tokens=0,
    variants=tuple(
        Variant(id=shape.variant, engine="e", precision="p", weights="w", weights_mib=1, shapes=(shape,))
        for shape in (FULL, SMALL)
    ),
)


def group(name, claim, variant, rung=0, replicas=1):
    return Group(
        id=name, claim=claim, worker="w", rung=rung, variant=variant, devices=("GPU-1",), replicas=replicas, since_ms=7
    )


def seen(*groups):
    device = Device(id="GPU-1", node="n", flavor="H100", gpu="GPU-1", memory_mib=80_000)
    return Snapshot(generation=1, observed_at_ms=10, devices=(device,), groups=groups)


def claim(name):
    return Claim(id=name, tenant=name.partition(":")[0], kind=ClaimKind.SERVING, model="m", ladder=(FULL,))


def test_what_a_claim_asks_for_is_accounted_for():
    found = adoption(seen(group("g", "a/b:c", "m-f16")), [claim("a/b:c")], [MODEL], adopted=False)
    assert (found.unaccounted, found.proposed, found.unknown) == ((), (), ())


def test_the_groups_of_a_lost_claim_become_one_claim_that_keeps_all_their_replicas():
    found = adoption(
        seen(group("g1", "a/b:c", "m-f16", replicas=2), group("g2", "a/b:c", "m-q8", rung=1)),
        [],
        [MODEL],
        adopted=False,
    )
    (made,) = found.proposed
    assert (made.id, made.tenant, made.model, made.desired_replicas) == ("a/b:c", "a/b", "m", 3)
    assert made.ladder == (FULL, SMALL)


def test_a_group_keeps_its_rung_where_the_catalogue_has_another_ladder():
    (made,) = adoption(seen(group("g", "a/b:c", "m-q8", rung=0)), [], [MODEL], adopted=False).proposed
    assert made.ladder[0] == SMALL
    (made,) = adoption(seen(group("g", "a/b:c", "m-f16", rung=2)), [], [MODEL], adopted=False).proposed
    assert made.ladder == (FULL, FULL, FULL)


def test_a_job_is_proposed_with_the_devices_that_it_holds():
    (made,) = adoption(seen(group("g", "a/b:j", None)), [], [MODEL], adopted=False).proposed
    assert (made.kind, made.model, made.ladder[0].flavors) == (ClaimKind.JOB, None, ("H100",))


def test_a_variant_that_no_catalogue_names_is_left_to_a_person():
    found = adoption(seen(group("g", "a/b:c", "elsewhere")), [], [MODEL], adopted=False)
    assert found.unknown == ("a/b:c",)
    assert found.proposed == ()
