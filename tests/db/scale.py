"""A PostgreSQL database after a long life: 100,000 incidents, 1,000,000 deliveries, and what belongs to them."""

from sqlalchemy import Engine, text

from app.db.codec import finding_to_json
from app.db.tables import json_text
from app.domain.access import Sight
from app.domain.finding import Finding, Severity

INCIDENTS, DELIVERIES, REPOSITORIES, GRANTED = 100_000, 1_000_000, 200, 20
PERSON = 501
EVERYBODYS = Sight(everything=True)
PERSONS = Sight(account_id=PERSON)

_STATEMENTS = (
    "SET LOCAL synchronous_commit = off",
    "SET LOCAL session_replication_role = replica",
    "INSERT INTO installations (id, account, selection, added_at) VALUES (1, 'acme', 'all', now())",
    """INSERT INTO repositories (id, full_name, installation_id, default_branch, added_at)
       SELECT i, 'acme/model-' || i, 1, 'main', now() FROM generate_series(1, :repositories) AS i""",
    """INSERT INTO models (repository_id, name, curves, added_at)
       SELECT i, 'churn', '{}', now() FROM generate_series(1, :repositories) AS i""",
    """INSERT INTO accounts (id, login, operator, created_at, seen_at) VALUES (:person, 'mona', false, now(), now())""",
    """INSERT INTO grants (account_id, repository_id, installation_id, role, granted_at)
       SELECT :person, i * 9, 1, 'operator', now() FROM generate_series(1, :granted) AS i""",
    """INSERT INTO incidents (id, repository_id, installation_id, repository, branch, fingerprint, kind, severity,
           detector, summary, finding, head_sha, run_id, attempt, workflow_path, run_url, state, rung, opened_at,
           updated_at, healed_at)
       SELECT i, r, 1, 'acme/model-' || r, 'main', md5(i::text),
           (ARRAY['gpu_oom', 'dependency_conflict', 'test_failure', 'lint', 'disk_full'])[1 + i % 5], 'high',
           (ARRAY['pipeline_failure', 'data_drift', 'model_degradation', 'dependency_vulnerability'])[1 + i % 4],
           'CUDA ran out of memory while training model ' || i || ' on shard ' || i % 97,
           CAST(:finding AS json),
           md5(i::text) || 'abcdef01', i, 1, '.github/workflows/train.yml', '',
           CASE WHEN i % 500 = 7 THEN 'awaiting_approval' WHEN i % 700 = 3 THEN 'repairing'
                WHEN i % 900 = 5 THEN 'verifying' WHEN i % 1000 = 9 THEN 'open' WHEN i % 10 < 6 THEN 'healed'
                WHEN i % 10 = 6 THEN 'escalated' WHEN i % 10 = 7 THEN 'recovered' WHEN i % 10 = 8 THEN 'observed'
                ELSE 'dismissed' END, 0,
           now() - (:incidents - i) * interval '5 minutes', now() - (:incidents - i) * interval '4 minutes', now()
       FROM (SELECT i, 1 + i * 919 % :repositories AS r FROM generate_series(1, :incidents) AS i) AS each""",
    """INSERT INTO repairs (id, incident_id, repository_id, effect_key, action, remedy, rung, verb, state, approved_by,
           intent, plan, proof, intended_at, applied_at, ended_at, proof_s, watch_s, mailbox)
       SELECT i, i, 1 + i * 919 % :repositories, 'key-' || i,
           (ARRAY['rerun_job', 'lower_batch_size', 'pin_dependency', 'quarantine_test'])[1 + i % 4],
           '{"action": "rerun_job", "params": {}}', 0, 'apply',
           CASE WHEN i % 500 = 7 THEN 'asked' WHEN i % 900 = 5 THEN 'applied' ELSE 'proven' END, '', '{}', NULL, '{}',
           now() - (:incidents - i) * interval '5 minutes', now(), now(), 60, 60, '1'
       FROM generate_series(1, :incidents) AS i""",
    """INSERT INTO timeline (id, incident_id, at, kind, data, actor)
       SELECT i, 1 + (i - 1) / 5, now() - (5 * :incidents - i) * interval '1 minute',
           (ARRAY['found', 'decided', 'planned', 'asked', 'approved'])[1 + i % 5], '{}',
           CASE WHEN i % 5 = 4 THEN 'person-' || i % 41 ELSE '' END
       FROM generate_series(1, 5 * :incidents) AS i""",
    """INSERT INTO deliveries (id, guid, source, event, action, installation_id, repository_id, repository, headers,
           body, received_at, state, mailbox)
       SELECT i, 'guid-' || i, (ARRAY['github', 'github', 'alertmanager', 'schedule'])[1 + i % 4],
           (ARRAY['workflow_run', 'check_run', 'push', 'pull_request'])[1 + i % 4], '', 1, r, 'acme/model-' || r, '{}',
           '', now() - (:deliveries - i) * interval '30 seconds',
           CASE WHEN i % 50000 = 0 THEN 'ready' WHEN i % 3 = 0 THEN 'done' ELSE 'ignored' END, '1'
       FROM (SELECT i, 1 + i * 919 % :repositories AS r FROM generate_series(1, :deliveries) AS i) AS each""",
)
_LARGE = ("incidents", "repairs", "timeline", "deliveries")
_SIZES = {
    "incidents": INCIDENTS,
    "deliveries": DELIVERIES,
    "repositories": REPOSITORIES,
    "granted": GRANTED,
    "person": PERSON,
    "finding": json_text(finding_to_json(Finding("pipeline_failure", "lint", "train", Severity.HIGH, 0.9, "", "f"))),
}


def fill(engine: Engine) -> None:
    """Into a migrated and empty database. Foreign keys are not looked at, so it takes a superuser; the indexes are made
    anew at the end, which is faster than keeping them."""
    indexes = text("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY(:large) AND indexname LIKE 'ix%'")
    with engine.connect() as connection, connection.begin():
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL maintenance_work_mem = '256MB'"))
        made = connection.execute(indexes, {"large": list(_LARGE)}).all()
        for name, _ in made:
            connection.execute(text(f"DROP INDEX {name}"))
        for statement in _STATEMENTS:
            connection.execute(text(statement), {n: v for n, v in _SIZES.items() if f":{n}" in statement})
        for _, definition in made:
            connection.execute(text(definition))
        for table in _LARGE:
            connection.execute(text(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM ANALYZE"))
