"""SQL that is stored in the warehouse: views of the current version, macros for any other, differences, lineage."""

from assay.trajectories.schemas import TABLES, Table

_CURRENT = "SELECT part FROM version_parts WHERE version = (SELECT version FROM version_names WHERE name = 'current')"

_VERSION_OF = """
CREATE OR REPLACE MACRO version_of(wanted) AS coalesce(
    (SELECT CASE WHEN len(any_value(v.missing)) > 0
            THEN error('version "' || wanted || '" is incomplete: ' || any_value(v.missing)[1]
                       || CASE WHEN any_value(v.kind) = 'import' THEN ' cannot be read; import it again'
                          ELSE ' is not in DVC''s cache; run `dvc fetch --all-commits` (or `dvc pull`), then `assay sync`' END)
            ELSE any_value(v.name) END
     FROM version_names AS n JOIN versions AS v ON v.name = n.version
     WHERE n.name = wanted OR (n.kind = 'commit' AND length(wanted) >= 7 AND starts_with(n.name, wanted))
     HAVING count(DISTINCT v.name) = 1),
    error('there is no version "' || wanted || '"; SELECT name, kind, version FROM version_names lists the names'))
"""

HEADLINE = (
    "of each sample, the row of `verdicts` that `evaluations` counts: the oracle's in environments where the oracle judged any, else "
    "the rule's"
)
_HEADLINE = """
WITH known AS (
    SELECT DISTINCT environment
    FROM {verdicts} AS v JOIN {trajectories} AS t USING (trajectory_id) JOIN {tasks} AS k USING (task_id)
    WHERE v.role = 'oracle' AND (v.verdict <> 'abstain' OR v.reason IS DISTINCT FROM 'not_applicable'))
SELECT {columns}
FROM {verdicts} AS v JOIN {trajectories} AS t USING (trajectory_id) JOIN {tasks} AS k USING (task_id)
WHERE v.role = CASE WHEN k.environment IN (FROM known) THEN 'oracle' ELSE 'rule' END
"""

_METRIC_DIFFERENCE = """
CREATE OR REPLACE MACRO metric_difference(first_version, second_version) AS TABLE
SELECT iteration, environment, split, metric, one.value AS first_value, two.value AS second_value,
       two.value - one.value AS change, one.high < two.low OR two.high < one.low AS disjoint
FROM evaluations_at(first_version) AS one
FULL JOIN evaluations_at(second_version) AS two USING (iteration, environment, split, metric)
ORDER BY ALL
"""

_PARAMS_DIFFERENCE = """
CREATE OR REPLACE MACRO params_difference(first_version, second_version) AS TABLE
SELECT key, one.value AS first_value, two.value AS second_value
FROM (SELECT key, value FROM version_params WHERE version = version_of(first_version)) AS one
FULL JOIN (SELECT key, value FROM version_params WHERE version = version_of(second_version)) AS two USING (key)
WHERE one.value IS DISTINCT FROM two.value
ORDER BY key
"""

_STAGE_DIFFERENCE = """
CREATE OR REPLACE MACRO stage_difference(first_version, second_version) AS TABLE
SELECT stage, role, path, one.hash AS first_hash, two.hash AS second_hash
FROM (SELECT * FROM version_stages WHERE version = version_of(first_version)) AS one
FULL JOIN (SELECT * FROM version_stages WHERE version = version_of(second_version)) AS two USING (stage, role, path)
WHERE one.hash IS DISTINCT FROM two.hash
ORDER BY ALL
"""

_LINEAGE = """
CREATE OR REPLACE MACRO lineage_at(version_name, at_iteration, of_environment, of_split, of_metric) AS TABLE
WITH this AS (SELECT name, commit_id, params FROM versions WHERE name = version_of(version_name)),
found AS (
    SELECT part, stage, path, md5 FROM version_parts JOIN (SELECT part, md5 FROM parts) USING (part)
    WHERE version = (SELECT name FROM this)),
policies AS (  -- an input of the stages that sample: models/K/policy, models/fused/N/policy, or with its trainer models/fused/K
    SELECT regexp_extract(path, '^models/(?:fused/)?([^/]+)(?:/policy)?$', 1) AS policy, arg_max(hash, path LIKE '%/policy') AS hash
    FROM version_stages WHERE version = (SELECT name FROM this) AND role = 'input' GROUP BY ALL),
judged AS (
    SELECT trajectory_id, list({'role': role, 'verifier': verifier, 'version': verifier_version, 'verdict': verdict,
                                'reason': reason, 'answer': answer, 'shard': path} ORDER BY role) AS verdicts
    FROM store.verdicts JOIN found USING (part) WHERE iteration = at_iteration GROUP BY trajectory_id)
SELECT metric, value, low, high, iteration, k.environment, split,
       task_id, gold, trajectory_id, sample_index, verdicts, text, completion_ids, sampled_logprobs, sampling,
       policy, policies.hash AS policy_hash, found.stage, found.path AS shard, found.md5 AS shard_md5,
       this.name AS version, this.commit_id, this.params
FROM evaluations_at(version_name) AS e
JOIN tasks_at(version_name) AS k USING (split)
JOIN store.trajectories AS t USING (task_id, iteration)
JOIN found USING (part)
LEFT JOIN judged USING (trajectory_id)
LEFT JOIN policies USING (policy)
CROSS JOIN this
WHERE iteration = at_iteration AND split = of_split AND metric = of_metric AND e.environment = of_environment
  AND (k.environment = of_environment OR of_environment = 'all') AND t.kind = 'evaluation'
ORDER BY task_id, sample_index
"""


def lineage_statement(version: str, *, temporary: bool = False) -> str:
    """Statement that makes the macro lineage(...) of a version; `temporary`: for one connection alone."""
    kind = "TEMP MACRO" if temporary else "MACRO"
    return (
        f"CREATE OR REPLACE {kind} lineage(at_iteration, of_environment, of_split, of_metric) AS TABLE "
        f"FROM lineage_at('{version}', at_iteration, of_environment, of_split, of_metric)"
    )


def table_statements(table: Table) -> list[str]:
    """Statements that make the view TABLE and the macros TABLE_at(version) and TABLE_difference(version, version)."""
    name = table.name
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    rows = f"SELECT {columns} FROM store.{name} WHERE part IN"
    own = "SELECT part FROM version_parts WHERE version = version_of"
    return [
        f"CREATE OR REPLACE VIEW {name} AS {rows} ({_CURRENT})",
        f"CREATE OR REPLACE MACRO {name}_at(version_name) AS TABLE {rows} ({own}(version_name))",
        # Rows of shards that both versions have are equal: only the other shards are compared.
        f"CREATE OR REPLACE MACRO {name}_difference(first_version, second_version) AS TABLE "
        f"WITH one AS ({own}(first_version)), two AS ({own}(second_version)), "
        f"only_one AS ({rows} (FROM one EXCEPT FROM two)), only_two AS ({rows} (FROM two EXCEPT FROM one)) "
        "SELECT first_version AS only_in, * FROM (FROM only_one EXCEPT ALL FROM only_two) UNION ALL "
        "SELECT second_version, * FROM (FROM only_two EXCEPT ALL FROM only_one)",
    ]


def headline_statements() -> list[str]:
    """Statements that make the view headline and the macro headline_at(version). They use those of the tables."""
    columns = ", ".join(f'v."{column.name}"' for column in TABLES["verdicts"].columns)
    names = ("verdicts", "trajectories", "tasks")
    return [
        f"CREATE OR REPLACE VIEW headline AS {_HEADLINE.format(columns=columns, **{name: name for name in names})}",
        "CREATE OR REPLACE MACRO headline_at(version_name) AS TABLE "
        + _HEADLINE.format(columns=columns, **{name: f"{name}_at(version_name)" for name in names}),
    ]


def version_statements() -> list[str]:
    """Statements that make the macros over whole versions. They use those of the tables."""
    counts = " UNION ALL ".join(
        f"SELECT '{name}' AS table_name, (SELECT count(*) FROM {name}_at(first_version)) AS first_rows, "
        f"(SELECT count(*) FROM {name}_at(second_version)) AS second_rows, "
        "count(*) FILTER (only_in = first_version) AS only_first, "
        "count(*) FILTER (only_in = second_version) AS only_second "
        f"FROM {name}_difference(first_version, second_version)"
        for name in TABLES
    )
    return [
        f"CREATE OR REPLACE MACRO version_difference(first_version, second_version) AS TABLE {counts}",
        _METRIC_DIFFERENCE, _PARAMS_DIFFERENCE, _STAGE_DIFFERENCE, _LINEAGE,
        lineage_statement("current"),
    ]  # fmt: skip


def statements() -> list[str]:
    """Everything that is stored, in an order in which each finds what it uses."""
    of_tables = [statement for table in TABLES.values() for statement in table_statements(table)]
    return [_VERSION_OF, *of_tables, *headline_statements(), *version_statements()]
