"""Pipelines over real databases: what comes out is what a run without faults would have made."""

import asyncio
import json
from datetime import date

import msgspec
import pytest

import sql_engines
from consona import ConfigurationError, PipelineError, SQLDatabase
from consona.pipelines.errors import (
    ExpectationFailed,
    PipelineBusy,
    RowRejected,
    SchemaChanged,
    TooManyRejected,
)
from consona.pipelines.expressions import col, parse, when
from consona.pipelines.pipeline import Pipeline
from consona.pipelines.source import RowsSource
from consona.pipelines.sql_source import SQLSource
from consona.pipelines.sql_target import SQLTarget


class Order(msgspec.Struct):
    id: int
    customer: str
    total: float


class Cut(Exception):
    """The run ends here, as a killed process would."""


class CutTarget(SQLTarget):
    """Ends the run before, or right after, the commit of one batch."""

    cut_at = 0
    after = False

    async def write(self, batch, state):
        if state.batches == self.cut_at and not self.after:
            raise Cut
        await super().write(batch, state)
        if state.batches == self.cut_at and self.after:
            raise Cut


@pytest.fixture(params=sql_engines.PARAMETERS)
async def db(request, tmp_path):
    async with request.param.new(tmp_path) as url, SQLDatabase(url) as db:
        yield db


@pytest.fixture
async def lite(tmp_path):
    async with SQLDatabase(f"sqlite:///{tmp_path / 'warehouse.db'}") as db:
        yield db


def orders(count, first=1):
    return [{"id": n, "customer": f"customer {n}", "total": n * 0.5} for n in range(first, first + count)]


async def ids(db, table="orders"):
    return await db.fetch_column(f"SELECT id FROM {table} ORDER BY id", into=int)


class TestModes:
    async def test_append_adds_the_rows_of_each_run(self, db):
        for first in (1, 4):
            report = await Pipeline("a").extract(orders(3, first)).load(SQLTarget(db, "orders")).run()
            assert (report.read, report.loaded, report.finished) == (3, 3, True)
        assert await ids(db) == [1, 2, 3, 4, 5, 6]

    async def test_upsert_changes_rows_with_the_same_key(self, db):
        target = SQLTarget(db, "orders", mode="upsert", key="id")
        await Pipeline("u").extract(orders(300)).load(target).run()
        changed = [{**row, "customer": "changed"} for row in orders(300, 200)]
        await Pipeline("u").extract([*changed, changed[0]]).load(target).run()
        assert await ids(db) == list(range(1, 500))
        assert await db.fetch_value("SELECT COUNT(*) FROM orders WHERE customer = 'changed'", into=int) == 300

    async def test_replace_leaves_exactly_the_rows_of_the_last_run(self, db):
        for first, count in ((1, 5), (3, 2)):
            await Pipeline("r").extract(orders(count, first)).load(SQLTarget(db, "orders", mode="replace")).run()
        assert await ids(db) == [3, 4]

    async def test_a_failed_replace_leaves_the_table_as_it_was(self, db):
        await Pipeline("r").extract(orders(5)).load(SQLTarget(db, "orders", mode="replace")).run()
        rows = [*orders(3), {"id": 9, "customer": "x", "total": 1.0}]
        broken = Pipeline("r").extract(rows).validate(Order).expect(rows=(10, None))
        with pytest.raises(ExpectationFailed, match="4 rows came, and at least 10"):
            await broken.load(SQLTarget(db, "orders", mode="replace")).run()
        assert await ids(db) == [1, 2, 3, 4, 5]

    async def test_delete_insert_replaces_the_partitions_that_come(self, db):
        target = SQLTarget(db, "sales", mode="delete_insert", partition="day")
        day = lambda n, items: [{"day": f"2024-05-0{n}", "id": item} for item in items]
        await Pipeline("d").extract(day(1, [1, 2]) + day(2, [3])).load(target).run()
        await Pipeline("d").extract(day(2, [4, 5])).load(target).run()
        assert await ids(db, "sales") == [1, 2, 4, 5]


class TestIncremental:
    async def test_a_run_reads_what_is_new_since_the_last_one(self, db, lite):
        await db.execute("CREATE TABLE shop (id INTEGER PRIMARY KEY, changed INTEGER, name VARCHAR(20))")
        await db.insert_many("shop", [{"id": n, "changed": n // 3, "name": "x"} for n in range(1, 10)])
        pipeline = Pipeline("inc", batch_rows=2).extract(SQLSource(db, table="shop", cursor="changed", key="id"))
        pipeline.load(SQLTarget(lite, "copy"))
        assert (await pipeline.run()).read == 9
        assert (await pipeline.run()).read == 0
        # One with the cursor's last value, and one beyond it.
        await db.insert_many("shop", [{"id": n, "changed": c, "name": "y"} for n, c in ((10, 3), (11, 7))])
        assert (await pipeline.run()).read == 2
        assert await ids(lite, "copy") == list(range(1, 12))

    @pytest.mark.parametrize("after", [False, True])
    @pytest.mark.parametrize("cut_at", [1, 2, 4, 6])
    async def test_a_run_that_was_cut_off_goes_on_and_each_row_is_there_once(self, lite, tmp_path, cut_at, after):
        rows = [{**row, "total": "bad" if row["id"] % 5 == 0 else row["total"]} for row in orders(60)]

        def pipeline(target):
            return (
                Pipeline("cut", batch_rows=10)
                .extract(rows)
                .validate(Order, quarantine=tmp_path / "rejected.jsonl")
                .load(target)
            )

        cut = CutTarget(lite, "orders")
        cut.cut_at, cut.after = cut_at, after
        with pytest.raises(Cut):
            await pipeline(cut).run()
        report = await pipeline(SQLTarget(lite, "orders")).run()
        assert (report.read, report.loaded, report.rejected) == (60, 48, 12)
        assert report.resumed
        assert await ids(lite) == [n for n in range(1, 61) if n % 5]
        kept = [json.loads(line)["original"]["id"] for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
        assert kept == [n for n in range(1, 61) if n % 5 == 0]

    async def test_a_source_that_cannot_go_on_begins_anew_and_no_row_is_there_twice(self, lite):
        def rows():
            yield from orders(50)

        cut = CutTarget(lite, "orders")
        cut.cut_at = 3
        with pytest.raises(Cut):
            await Pipeline("again", batch_rows=10).extract(rows).load(cut).run()
        report = await Pipeline("again", batch_rows=10).extract(rows).load(SQLTarget(lite, "orders")).run()
        assert not report.resumed
        assert await ids(lite) == list(range(1, 51))

    async def test_two_runners_at_once_are_one(self, lite):
        going, enough = asyncio.Event(), asyncio.Event()

        async def slowly():
            yield orders(1)[0]
            going.set()
            await enough.wait()

        def pipeline(source):
            return Pipeline("one", batch_rows=1).extract(source).load(SQLTarget(lite, "orders"))

        first = asyncio.create_task(pipeline(RowsSource(slowly)).run())
        await going.wait()
        with pytest.raises(PipelineBusy, match="'one' is running"):
            await pipeline(orders(3)).run()
        enough.set()
        await first
        assert await ids(lite) == [1]


class TestRows:
    async def run(self, pipeline, lite, table="made"):
        report = await pipeline.load(SQLTarget(lite, table, mode="replace")).run()
        return report, await lite.fetch_all(f"SELECT * FROM {table}")

    async def test_rules_compute_fields_from_the_row_as_it_came(self, lite):
        rows = [{"name": "ada", "price": 3, "quantity": 2}, {"name": "bob", "price": None, "quantity": 1}]
        rules = {"name": str.upper, "price": col("price") + 1, "total": col("price") * col("quantity"), "kind": "order"}
        _, made = await self.run(Pipeline("t").extract(rows).transform(rules), lite)
        assert made == [
            {"name": "ADA", "price": 4, "quantity": 2, "total": 6, "kind": "order"},
            {"name": "BOB", "price": None, "quantity": 1, "total": None, "kind": "order"},
        ]
        _, made = await self.run(Pipeline("t").extract(rows).transform({"name": str.title}, keep=False), lite, "short")
        assert made == [{"name": "Ada"}, {"name": "Bob"}]

    async def test_a_row_whose_rule_fails_is_told_with_the_field_and_without_its_value(self, lite, tmp_path):
        rows = [{"id": 1, "name": "ada"}, {"id": 2, "name": 5}, {"id": 3, "name": "eve"}]
        pipeline = Pipeline("t").extract(rows).transform({"name": str.upper, "twice": col("id") * 2})
        with pytest.raises(RowRejected, match=r"row 2: the rule for 'name' failed: TypeError"):
            await self.run(pipeline, lite)
        pipeline.set_aside(tmp_path / "bad.jsonl")
        report, made = await self.run(pipeline, lite)
        assert [row["name"] for row in made] == ["ADA", "EVE"]
        assert report.reasons == {"the rule for 'name' failed: TypeError": 1}

    async def test_filter_rename_cast_select_drop(self, lite):
        rows = [{"Id": "1", "price": "2.50", "on": "2024-05-01", "x": 1}, {"Id": "2", "price": "", "on": None, "x": 1}]
        pipeline = Pipeline("t").extract(rows).rename({"Id": "id"}).cast({"id": int, "price": float, "on": date})
        _, made = await self.run(pipeline.drop("x").filter(col("id") < 2), lite)
        assert made == [{"id": 1, "price": 2.5, "on": "2024-05-01"}]

    async def test_nested_rows_become_rows(self, lite):
        rows = [{"id": 1, "lines": [{"sku": "a"}, {"sku": "b"}]}, {"id": 2, "lines": []}]
        _, made = await self.run(Pipeline("t").extract(rows).explode("lines", prefix="", position="line"), lite)
        assert made == [{"id": 1, "sku": "a", "line": 1}, {"id": 1, "sku": "b", "line": 2}]

    async def test_dedupe_and_lookup(self, lite):
        rows = [{"id": 1, "land": "de"}, {"id": 1, "land": "fr"}, {"id": 2, "land": "xx"}]
        lands = [{"code": "de", "name": "Germany"}, {"code": "fr", "name": "France"}]
        pipeline = Pipeline("t").extract(rows).dedupe("id").lookup(lands, on="land", key="code")
        _, made = await self.run(pipeline, lite)
        assert [row["name"] for row in made] == ["Germany", None]

    async def test_personal_fields_are_masked(self, lite):
        rows = [{"mail": "ada@example.org", "card": "4242424242424242"}] * 2
        pipeline = Pipeline("t").extract(rows).mask("mail", key=b"a secret of 16 b").mask("card", how="last4")
        _, made = await self.run(pipeline, lite)
        assert made[0]["mail"] == made[1]["mail"] != "ada@example.org"
        assert made[0]["card"] == "************4242"
        with pytest.raises(ConfigurationError, match="needs key="):
            Pipeline("t").mask("mail")

    async def test_async_calls_keep_the_order(self, lite):
        async def enrich(row):
            for _ in range(5 - row["id"] % 5):
                await asyncio.sleep(0)
            if row["id"] == 7:
                return None
            return {**row, "name": f"n{row['id']}"}

        rows = [{"id": n} for n in range(1, 21)]
        _, made = await self.run(Pipeline("t").extract(rows).map(enrich, concurrency=4), lite)
        assert [row["id"] for row in made] == [n for n in range(1, 21) if n != 7]

    @pytest.mark.parametrize("kind", ["rows", "arrow", "polars"])
    async def test_whole_batches(self, lite, kind):
        functions = {
            "rows": lambda rows: rows[:2],
            "arrow": lambda table: table.slice(0, 2),
            "polars": lambda frame: frame.head(2),
        }
        _, made = await self.run(Pipeline("t").extract(orders(5)).batch(functions[kind], kind=kind), lite)
        assert [row["id"] for row in made] == [1, 2]

    async def test_a_row_that_is_refused_behind_a_whole_batch_is_told_as_it_was_then(self, lite, tmp_path):
        rows = [*orders(3), {"id": 4, "customer": None, "total": 1.0}, *orders(1, 5)]
        pipeline = Pipeline("t").extract(rows).batch(lambda rows: rows[1:]).validate(Order)
        report, made = await self.run(pipeline.set_aside(tmp_path / "bad.jsonl"), lite)
        assert [row["id"] for row in made] == [2, 3, 5]
        assert json.loads((tmp_path / "bad.jsonl").read_text())["original"]["id"] == 4
        assert (report.read, report.loaded, report.rejected, report.left_out) == (5, 3, 1, 1)

    async def test_too_many_refused_rows_end_the_run(self, lite, tmp_path):
        rows = [{"id": "x", "customer": "c", "total": 1.0}] * 5 + orders(5)
        pipeline = Pipeline("t").extract(rows)
        pipeline.validate(Order, quarantine=tmp_path / "bad.jsonl", max_rejected=0.2)
        with pytest.raises(TooManyRejected, match="5 of 10 rows"):
            await self.run(pipeline, lite)

    async def test_refused_rows_are_run_again_after_the_rule_was_mended(self, lite, tmp_path):
        rows = [*orders(3), {"id": 4, "customer": "c", "total": "1.5"}, {"id": 5, "customer": "c", "total": "x"}]

        def pipeline(*, strict):
            return (
                Pipeline("t")
                .extract(rows)
                .validate(Order, strict=strict, quarantine=tmp_path / "bad.jsonl")
                .load(SQLTarget(lite, "orders", mode="upsert", key="id"))
            )

        def kept():
            return (tmp_path / "bad.jsonl").read_text().splitlines()

        assert (await pipeline(strict=True).run()).rejected == 2
        assert [json.loads(line)["original"]["id"] for line in kept()] == [4, 5]
        for _ in range(2):  # what is refused again stays, however often it is tried
            report = await pipeline(strict=False).retry_rejected()
            assert await ids(lite) == [1, 2, 3, 4]
            assert [json.loads(line)["original"]["id"] for line in kept()] == [5]
        assert (report.read, report.loaded, report.rejected) == (1, 0, 1)
        # A run goes on with the quarantine as the retry left it.
        assert (await pipeline(strict=True).run()).rejected == 2
        assert [json.loads(line)["original"]["id"] for line in kept()] == [5, 4, 5]
        assert sorted(path.name for path in tmp_path.glob("bad*")) == ["bad.jsonl"]

    @pytest.mark.parametrize("cut_at", [1, 2, 3])
    @pytest.mark.parametrize("after", [False, True])
    async def test_a_retry_that_was_cut_off_goes_on(self, lite, tmp_path, cut_at, after):
        rows = [{"id": n, "customer": "c", "total": "1" if n % 2 else "x"} for n in range(1, 31)]

        def pipeline(target, *, strict):
            made = Pipeline("t", batch_rows=10).extract(rows).validate(Order, strict=strict)
            return made.set_aside(tmp_path / "bad.jsonl").load(target)

        await pipeline(SQLTarget(lite, "orders"), strict=True).run()
        cut = CutTarget(lite, "orders")
        cut.cut_at, cut.after = cut_at, after
        with pytest.raises(Cut):
            await pipeline(cut, strict=False).retry_rejected()
        await pipeline(SQLTarget(lite, "orders"), strict=False).retry_rejected()
        assert await ids(lite) == list(range(1, 31, 2))
        left = [json.loads(line)["original"]["id"] for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
        assert left == list(range(2, 31, 2))

    async def test_a_retry_waits_until_the_run_is_whole(self, lite, tmp_path):
        rows = [{"id": 1, "customer": "c", "total": "x"}, *orders(30, 2)]
        cut = CutTarget(lite, "orders")
        cut.cut_at = 2

        def pipeline(target):
            made = Pipeline("t", batch_rows=10).extract(rows).validate(Order)
            return made.set_aside(tmp_path / "bad.jsonl").load(target)

        with pytest.raises(Cut):
            await pipeline(cut).run()
        with pytest.raises(PipelineError, match="was cut off"):
            await pipeline(SQLTarget(lite, "orders")).retry_rejected()
        with pytest.raises(ConfigurationError, match="only the rows of the last run"):
            await pipeline(SQLTarget(lite, "orders", mode="replace")).retry_rejected()

    async def test_a_run_that_begins_anew_sets_its_rows_aside_once(self, lite, tmp_path):
        def rows():
            yield from orders(20)
            yield {"id": 21, "customer": "c", "total": "x"}
            yield from orders(20, 22)

        def pipeline(target):
            made = Pipeline("t", batch_rows=10).extract(rows).validate(Order)
            return made.set_aside(tmp_path / "bad.jsonl").load(target)

        cut = CutTarget(lite, "orders", mode="upsert", key="id")
        cut.cut_at = 4
        with pytest.raises(Cut):
            await pipeline(cut).run()
        await pipeline(SQLTarget(lite, "orders", mode="upsert", key="id")).run()
        assert len((tmp_path / "bad.jsonl").read_text().splitlines()) == 1


class TestTable:
    async def test_a_table_of_refused_rows(self, db):
        rows = [{"id": n, "customer": "c" * 70_000, "total": "x" if n == 2 else 1.0} for n in (1, 2, 3)]
        pipeline = Pipeline("t").extract(rows).set_aside(db).transform({"total": float}).drop("customer")
        for _ in range(2):
            await pipeline.load(SQLTarget(db, "orders", mode="upsert", key="id")).run()
        kept = await db.fetch_all("SELECT number, reason, original FROM consona_rejected ORDER BY id")
        assert [row["number"] for row in kept] == [2, 2]
        assert json.loads(kept[0]["original"])["id"] == 2

    async def test_rows_that_the_table_refuses_are_set_aside(self, db, tmp_path):
        await db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer VARCHAR(50) NOT NULL, total FLOAT)")
        rows = [*orders(3), {"id": 4, "customer": None, "total": 1.0}, *orders(1, 5)]
        pipeline = Pipeline("t").extract(rows).set_aside(tmp_path / "bad.jsonl")
        report = await pipeline.load(SQLTarget(db, "orders")).run()
        assert (report.loaded, report.rejected) == (4, 1)
        assert await ids(db) == [1, 2, 3, 5]
        kept = json.loads((tmp_path / "bad.jsonl").read_text())
        assert (kept["stage"], kept["number"], kept["original"]["id"]) == ("load", 4, 4)

    @pytest.mark.parametrize("policy", ["freeze", "evolve", "discard_columns", "discard_rows"])
    async def test_fields_that_the_table_has_no_column_for(self, db, policy, tmp_path):
        await Pipeline("s").extract(orders(2)).load(SQLTarget(db, "orders")).run()
        rows = [*orders(1, 3), {**orders(1, 4)[0], "colour": "red"}]
        pipeline = Pipeline("s").extract(rows).set_aside(tmp_path / "bad.jsonl")
        pipeline.load(SQLTarget(db, "orders", schema=policy))
        if policy == "freeze":
            with pytest.raises(SchemaChanged, match="'colour'"):
                await pipeline.run()
            return
        report = await pipeline.run()
        assert await ids(db) == ([1, 2, 3] if policy == "discard_rows" else [1, 2, 3, 4])
        assert (
            report.changes
            == {
                "evolve": ["added the column 'colour'"],
                "discard_columns": ["left out the field 'colour'"],
                "discard_rows": [],
            }[policy]
        )

    async def test_a_preview_writes_nothing(self, lite):
        rows = [*orders(3), {"id": "x", "customer": "c", "total": 1.0}]
        pipeline = Pipeline("p").extract(rows).validate(Order).load(SQLTarget(lite, "orders"))
        seen = await pipeline.preview()
        assert (len(seen.rows), len(seen.rejected), seen.columns["total"]) == (3, 1, "float")
        assert await lite.fetch_column("SELECT name FROM sqlite_schema WHERE type = 'table'") == []


def test_expressions_compute_as_sql_does():
    row = {"a": 4, "b": None, "name": " Ada "}
    assert (col("a") / 2 - 1)(row) == 1
    assert (10 - col("a"))(row) == 6
    assert ((col("b") > 1) | (col("a") == 4))(row) is True
    assert ((col("b") > 1) & (col("a") == 4))(row) is None
    assert col("b").fill(col("a"))(row) == 4
    assert col("name").strip().upper()(row) == "ADA"
    assert when(col("a") > 3, "many", "few")(row) == "many"
    with pytest.raises(ConfigurationError, match="no truth"):
        bool(col("a") == 1)


@pytest.mark.parametrize("text", ["__import__('os')", "a.b", "(lambda: 1)()", "a if b else c", "a[0]", "f'{a}'", "("])
def test_text_that_is_no_expression_is_refused(text):
    with pytest.raises(ConfigurationError):
        parse(text)


def test_a_pipeline_without_ends_says_so():
    with pytest.raises(ConfigurationError, match="no source"):
        asyncio.run(Pipeline("x").run())
    with pytest.raises(ConfigurationError, match=r"upsert.*needs key"):
        SQLTarget("sqlite://", "t", mode="upsert")
