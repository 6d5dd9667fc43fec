"""The other ends of pipelines: files, APIs, documents."""

import csv
import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

import served
from consona import (
    APIClient,
    APIError,
    APIServer,
    ConfigurationError,
    DocumentDatabase,
    NotFound,
    PipelineError,
    Policy,
    SQLDatabase,
)
from consona.pipelines.api_source import APISource
from consona.pipelines.api_target import APITarget
from consona.pipelines.document_source import DocumentSource
from consona.pipelines.document_target import DocumentTarget
from consona.pipelines.errors import PipelineBusy
from consona.pipelines.file_source import FileSource
from consona.pipelines.file_target import FileTarget
from consona.pipelines.pipeline import Pipeline
from consona.pipelines.sql_target import SQLTarget
from consona.rest.client.pages import PageNumbers
from consona.rest.server.requests import Request


class Item(msgspec.Struct):
    id: int
    price: float | None = None


ROWS = [{"id": n, "name": f"n{n}"} for n in range(1, 8)]


@pytest.fixture
async def lite(tmp_path):
    async with SQLDatabase(f"sqlite:///{tmp_path / 'warehouse.db'}") as db:
        yield db


async def read(path, **options):
    out = path.with_name("out.jsonl")
    out.unlink(missing_ok=True)
    pipeline = Pipeline("read", batch_rows=3).extract(FileSource(path, **options))
    report = await pipeline.set_aside(path.with_name("bad.jsonl")).load(FileTarget(out)).run()
    return report, [json.loads(line) for line in out.read_text().splitlines()]


class TestReading:
    @pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "json", "parquet", "xlsx"])
    async def test_what_was_written_is_read_again(self, tmp_path, kind):
        path = tmp_path / f"rows.{kind}"
        await Pipeline("w", batch_rows=2).extract(ROWS).load(FileTarget(path)).run()
        _, found = await read(path)
        text = kind.startswith("csv")
        assert found == [{**row, "id": str(row["id"])} if text else row for row in ROWS]

    async def test_lines_that_are_no_rows_are_told_with_their_place(self, tmp_path):
        path = tmp_path / "warts.csv"
        path.write_bytes(b'\xef\xbb\xbfid,name\r\n1,ok\r\n2\r\n3,\xff\r\n4,a,b\r\n\r\n5,"two\nlines"\r\n6,\r\n')
        report, found = await read(path)
        assert found == [{"id": "1", "name": "ok"}, {"id": "5", "name": "two\nlines"}, {"id": "6", "name": None}]
        kept = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
        assert [(each["at"].rpartition(":")[2], each["reason"]) for each in kept] == [
            ("3", "has 1 fields, and the first line has 2"),
            ("4", "is not in utf-8"),
            ("5", "has 3 fields, and the first line has 2"),
        ]
        assert (report.read, report.loaded, report.rejected) == (6, 3, 3)

    async def test_other_encodings_and_delimiters(self, tmp_path):
        path = tmp_path / "old.csv"
        path.write_bytes("id;name\n1;Zürich\n".encode("latin-1"))
        assert (await read(path, encoding="latin-1", delimiter=";"))[1] == [{"id": "1", "name": "Zürich"}]

    @pytest.mark.parametrize("text", ["id,id\n1,2\n", "id,\n1,2\n"])
    async def test_columns_without_a_name_of_their_own_are_refused(self, tmp_path, text):
        path = tmp_path / "twice.csv"
        path.write_text(text)
        with pytest.raises(PipelineError, match="first line has"):
            await read(path)

    async def test_a_bomb_is_stopped(self, tmp_path):
        path = tmp_path / "bomb.jsonl.gz"
        path.write_bytes(gzip.compress(b'{"a": 1}\n' * 200_000))
        with pytest.raises(PipelineError, match="unpacks to more than 10000 bytes"):
            await read(path, max_bytes=10_000)

    async def test_only_new_files_are_read_where_that_is_asked_for(self, tmp_path, lite):
        pipeline = Pipeline("f").extract(FileSource(tmp_path / "day-*.jsonl", incremental=True))
        pipeline.load(SQLTarget(lite, "days"))
        for day in (1, 2):
            (tmp_path / f"day-{day}.jsonl").write_text(json.dumps({"id": day}) + "\n")
            await pipeline.run()
        assert await lite.fetch_column("SELECT id FROM days ORDER BY id") == [1, 2]

    async def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(NotFound, match=r"no file .*nothing\.csv"):
            await read(tmp_path / "nothing.csv")
        with pytest.raises(ConfigurationError, match="what kind of file"):
            FileTarget(tmp_path / "x.unknown")


class TestWriting:
    async def test_a_run_that_fails_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "rows.csv"
        path.write_text("old")

        def rows():
            yield {"id": 1}
            raise OSError("the source is away")

        with pytest.raises(OSError, match="away"):
            await Pipeline("w").extract(rows).load(FileTarget(path)).run()
        assert path.read_text() == "old"
        assert [each.name for each in tmp_path.iterdir() if each.suffix == ".part"] == []

    async def test_cells_that_a_spreadsheet_would_run_are_made_harmless(self, tmp_path):
        path = tmp_path / "rows.csv"
        rows = [{"a": "=1+1", "b": "@x", "c": -5, "d": None}]
        await Pipeline("w").extract(rows).load(FileTarget(path)).run()
        assert list(csv.reader(path.read_text().splitlines())) == [["a", "b", "c", "d"], ["'=1+1", "'@x", "-5", ""]]

    async def test_appended_batches_are_files_each_once_and_by_partition(self, tmp_path):
        folder = tmp_path / "lake"
        rows = [{"day": f"d{n % 2}", "id": n} for n in range(6)]
        for _ in range(2):
            target = FileTarget(folder, mode="append", partition="day")
            await Pipeline("w", batch_rows=4).extract(rows).load(target).run()
        (folder / "day=d0" / "part-w-00000099.jsonl").write_text('{"id": 1}\n')  # of a run that was cut off
        await Pipeline("w").extract([]).load(FileTarget(folder, mode="append", partition="day")).run()
        ids = [json.loads(line)["id"] for path in folder.rglob("part-*") for line in path.read_text().splitlines()]
        assert sorted(ids) == sorted([*range(6), *range(6)])

    async def test_pipelines_that_append_to_one_folder_leave_each_others_files(self, tmp_path):
        for name in ("one", "two", "one"):
            await Pipeline(name).extract(ROWS[:1]).load(FileTarget(tmp_path / "lake", mode="append")).run()
        assert sorted(path.name for path in (tmp_path / "lake").iterdir()) == [
            "part-one-00000001.jsonl",
            "part-one-00000002.jsonl",
            "part-two-00000001.jsonl",
        ]

    async def test_values_of_types_that_json_does_not_know(self, tmp_path):
        rows = [{"at": datetime(2024, 5, 1, tzinfo=UTC), "price": Decimal("1.10")}]
        await Pipeline("w").extract(rows).load(FileTarget(tmp_path / "a.jsonl")).run()
        assert json.loads((tmp_path / "a.jsonl").read_text()) == {"at": "2024-05-01T00:00:00Z", "price": "1.10"}

    async def test_one_writer_at_a_time(self, tmp_path):
        one, two = FileTarget(tmp_path / "a.jsonl"), FileTarget(tmp_path / "a.jsonl")
        await one.open("w")
        with pytest.raises(PipelineBusy):
            await two.open("w")
        await one.close()


class TestAPIs:
    @pytest.fixture
    async def shop(self):
        api = APIServer("shop")
        api.kept = []

        @api.get("/items")
        async def items(since: int = 0, page: int = 1) -> list[Item]:
            wanted = [Item(n, n * 1.5) for n in range(1, 8) if n >= since]
            return wanted[(page - 1) * 3 : page * 3]

        @api.get("/items/{id}/parts")
        async def parts(id: int, page: int = 1) -> list[Item]:
            return [Item(id * 10)] if page == 1 else []

        @api.post("/orders", status=201)
        async def order(rows: list[Item]) -> None:
            api.kept += rows

        async with served.served(api) as url:
            yield api, url

    async def test_pages_are_read_and_the_next_run_asks_for_what_is_new(self, shop, lite):
        source = APISource(shop[1], "/items", style=PageNumbers(size=3), cursor="id", since="since", key="id")
        pipeline = Pipeline("api").extract(source).load(SQLTarget(lite, "items", mode="upsert", key="id"))
        assert (await pipeline.run()).read == 7
        assert (await pipeline.run()).read == 0
        assert await lite.fetch_value("SELECT SUM(price) FROM items") == 42.0

    async def test_a_run_that_was_cut_off_sends_the_same_keys_again(self, tmp_path):
        api, keys = APIServer("shop"), []

        @api.post("/orders", status=201)
        async def order(rows: list[Item], request: Request) -> None:
            keys.append(request.headers["idempotency-key"])
            if len(keys) == 1:
                raise RuntimeError("the answer is lost")

        async with served.served(api) as url:
            for attempt in range(2):
                async with APIClient(url, policy=Policy()) as client:
                    target = APITarget(client, "/orders", state=f"sqlite:///{tmp_path / 'state.db'}")
                    run = Pipeline("out").extract([{"id": 1}]).load(target).run()
                    if attempt == 0:
                        with pytest.raises(APIError):
                            await run
                    else:
                        await run
        assert len(keys) == 2
        assert keys[0] == keys[1]

    async def test_lists_under_each_item_of_a_list_and_a_value_that_would_lead_elsewhere(self, lite):
        api = APIServer("shop")

        @api.get("/items")
        async def items() -> list[dict[str, str]]:
            return [{"id": "a"}, {"id": "b?x=1"}]

        @api.get("/items/{id}/parts")
        async def parts(id: str) -> list[dict[str, str]]:
            return [{"part": f"{id} 1"}, {"part": f"{id} 2"}]

        async with served.served(api) as url, APIClient(url) as client:
            source = APISource(client, "/items/{id}/parts", parent=APISource(client, "/items"))
            await Pipeline("n").extract(source).load(SQLTarget(lite, "parts")).run()
            found = await lite.fetch_column("SELECT part FROM parts ORDER BY part")
            assert found == ["a 1", "a 2", "b?x=1 1", "b?x=1 2"]
            wrong = APISource(client, "/items/{number}/parts", parent=APISource(client, "/items"))
            with pytest.raises(PipelineError, match="'number', and an item of"):
                await Pipeline("w").extract(wrong).load(SQLTarget(lite, "parts")).run()

    async def test_rows_are_sent_in_calls_of_a_size(self, shop, tmp_path):
        api, url = shop
        async with APIClient(url) as client:
            target = APITarget(client, "/orders", size=3, state=f"sqlite:///{tmp_path / 'state.db'}")
            await Pipeline("out").extract([{"id": n} for n in range(7)]).load(target).run()
        assert [item.id for item in api.kept] == list(range(7))


class TestDocuments:
    async def test_documents_go_and_come(self, tmp_path):
        async with DocumentDatabase(f"sqlite:///{tmp_path / 'shop.db'}") as shop:
            for _ in range(2):
                target = DocumentTarget(shop, "products", mode="upsert", key="id")
                await Pipeline("in", batch_rows=2).extract(ROWS).load(target).run()
            assert await shop["products"].count_documents({}) == 7
            out = tmp_path / "out.jsonl"
            source = DocumentSource(shop, "products", {"id": {"$gt": 2}}, projection={"_id": 0}, cursor="id")
            await Pipeline("out", batch_rows=2).extract(source).load(FileTarget(out)).run()
        assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == [3, 4, 5, 6, 7]

    def test_a_place_for_the_state_is_asked_for(self):
        with pytest.raises(ConfigurationError, match="needs state="):
            DocumentTarget("memory://x", "products")
