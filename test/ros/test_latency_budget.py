"""The real node does less to keep its latency budget, and labels keep their size."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus
from fault_model import harmless
from fault_rig import NODE, FaultRig


def test_a_latency_budget_is_kept_by_doing_less(spawn, ros):
    params = {'cameras': ['plain'], 'input_size_wh': [512, 512], 'num_threads': 1}
    node = spawn('node', {**params, 'diagnostics_period_s': 0.2})
    node.wait_for_log('loaded in', 60.0)
    rig = FaultRig.at(ros, node, NODE, ['plain'])
    picture = harmless((240, 320))

    def until(condition, what):
        def is_so():
            rig.works(picture=picture)
            return condition()

        rig.until(is_so, what, 60.0)

    until(lambda: rig.count('plain', 'published') > 5, 'frames at full size')
    full_ms = float(rig.values('plain')['stage_infer_p50_ms'])
    assert rig.set(latency_budget_ms=0.1 * full_ms).successful
    less = 'less is done to keep latency_budget_ms: network input at'
    until(lambda: less in rig.status('device').message, 'less to be done')
    assert rig.status('device').level == DiagnosticStatus.WARN
    rig.logs('exceed the budget')
    labels = rig.works(picture=picture)
    assert (labels.height, labels.width) == (240, 320)
    rig.set(latency_budget_ms=0.0)
    until(lambda: rig.status('device').level == DiagnosticStatus.OK, 'everything')
    assert rig.values('device')['load'] == 'everything'
