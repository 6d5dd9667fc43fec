"""Document databases: MongoDB's operators and PyMongo's methods, on engines that need no server."""

from consona.documents.change_stream import ChangeStream
from consona.documents.collection import Collection
from consona.documents.cursor import CommandCursor, Cursor
from consona.documents.database import DocumentDatabase
from consona.documents.document import Literal
from consona.documents.engine import Plan
from consona.documents.errors import (
    BulkWriteError,
    ChangesLost,
    DocumentChanged,
    DocumentRefused,
    DuplicateKey,
    OperatorError,
    PatternTooSlow,
)
from consona.documents.operations import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from consona.documents.results import (
    BulkWriteResult,
    DeleteResult,
    InsertManyResult,
    InsertOneResult,
    ReturnDocument,
    UpdateResult,
)

__all__ = [
    "BulkWriteError",
    "BulkWriteResult",
    "ChangeStream",
    "ChangesLost",
    "Collection",
    "CommandCursor",
    "Cursor",
    "DeleteMany",
    "DeleteOne",
    "DeleteResult",
    "DocumentChanged",
    "DocumentDatabase",
    "DocumentRefused",
    "DuplicateKey",
    "InsertManyResult",
    "InsertOne",
    "InsertOneResult",
    "Literal",
    "OperatorError",
    "PatternTooSlow",
    "Plan",
    "ReplaceOne",
    "ReturnDocument",
    "UpdateMany",
    "UpdateOne",
    "UpdateResult",
]
