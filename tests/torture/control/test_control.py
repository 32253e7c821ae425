"""The harness finds what Redis with replicas loses, and nothing in etcd; where these servers are installed.

KVNODE_TEST_CONTROL_ROUNDS and KVNODE_TEST_SEED choose another run of etcd.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.checker.workloads import Request
from tests.cluster.harness import eventually
from tests.torture.control import etcd, redis_server
from tests.torture.control.etcd import EtcdClient, EtcdCluster
from tests.torture.control.run import control_etcd, control_redis
from tests.torture.libraries import NoAnswer
from tests.torture.links import isolate

ROUNDS = int(os.environ.get("KVNODE_TEST_CONTROL_ROUNDS", "3"))
SEED = int(os.environ.get("KVNODE_TEST_SEED", "1"))

needs_redis = pytest.mark.skipif(
    not redis_server.is_installed(), reason="the control needs redis-server (Debian: apt-get install redis-server)"
)
needs_etcd = pytest.mark.skipif(
    not etcd.is_installed(), reason="the control needs etcd (Debian: apt-get install etcd-server)"
)


@needs_redis
def test_the_writes_that_redis_loses_are_found(tmp_path: Path) -> None:
    findings = control_redis(tmp_path / "redis", rounds=1)
    print(findings)
    assert findings.happened == ["partition", "kill"]
    assert len(findings.lost) >= 20
    assert findings.not_linearizable
    assert findings.unexplained


@needs_redis
def test_nothing_is_found_in_redis_as_long_as_its_master_stays(tmp_path: Path) -> None:
    findings = control_redis(tmp_path / "redis", rounds=0)
    assert findings.is_clean, str(findings)
    assert findings.acknowledged >= 20


@needs_etcd
def test_a_leader_of_etcd_that_is_cut_off_by_the_proxies_is_replaced_and_answers_nothing(tmp_path: Path) -> None:
    cluster = EtcdCluster(tmp_path / "etcd", SEED)
    try:
        cluster.start()
        old = cluster.wait_for_leader()
        cluster.links.impose(isolate(cluster.ids, old), held=True)
        others = [id for id in cluster.ids if id != old]
        new = eventually(lambda: next((id for id in others if leads(cluster, id)), None), "another one leads")
        assert ask(cluster, new, Request("SET", b"k", b"v")) == b"OK"
        with pytest.raises(NoAnswer):
            ask(cluster, old, Request("GET", b"k"))
        cluster.links.heal()
        assert cluster.read(old, b"k") == b"v"
    finally:
        cluster.close()


def leads(cluster: EtcdCluster, id: str) -> bool:
    info = cluster.maybe_info(id)
    return info is not None and info["role"] == "leader"


def ask(cluster: EtcdCluster, id: str, request: Request) -> object:
    client = EtcdClient(id, cluster.address(id), 2.0)
    try:
        client.prepare()
        return client.ask(request)[0]
    finally:
        client.close()


@needs_etcd
def test_nothing_is_found_in_etcd(tmp_path: Path) -> None:
    findings = control_etcd(tmp_path / "etcd", SEED, ROUNDS)
    print(findings)
    assert findings.is_clean, str(findings)
    assert len(findings.happened) >= ROUNDS
    assert findings.acknowledged >= 100
