"""The chapter's program of users in a SQL database, with the chapter's own class.

python examples/chapter/user_database.py                                # in memory
python examples/chapter/user_database.py postgresql://localhost/userdb  # or sqlite:///users.db, mysql://…
"""

from __future__ import annotations

import sys

from consona.chapter import DatabaseQueryError, SQLDatabase, narrate, show, think

KEYS = {
    "SQLite": "INTEGER PRIMARY KEY",
    "PostgreSQL": "SERIAL PRIMARY KEY",
    "MySQL": "INTEGER AUTO_INCREMENT PRIMARY KEY",
}
TABLE = """
CREATE TABLE users (
    id {key},
    username VARCHAR(50) UNIQUE NOT NULL,
    email VARCHAR(100) UNIQUE NOT NULL,
    password_hash VARCHAR(255) NOT NULL,
    full_name VARCHAR(100),
    age INTEGER
)
"""
INSERT = "INSERT INTO users (username, email, password_hash, full_name, age) VALUES (?, ?, ?, ?, ?)"
USERS = [
    ("john_doe", "john@example.org", "hashed_password_123", "John Doe", 30),
    ("jane_smith", "jane@example.org", "hashed_password_456", "Jane Smith", 25),
    ("bob_johnson", "bob@example.org", "hashed_password_789", "Bob Johnson", 35),
]


def list_users(db: SQLDatabase) -> None:
    for user in db.execute_query("SELECT * FROM users ORDER BY id", use_cache=True)["rows"]:
        show(" ", user["username"], user["email"], "age", user["age"])


def grow_older(db: SQLDatabase, newcomer: str) -> None:
    """One transaction: everybody under 35 is a year older, and somebody joins; both, or neither."""
    db.begin_transaction()
    try:
        changed = db.execute_query("UPDATE users SET age = age + 1 WHERE age < ?", [35])
        db.execute_query(INSERT, (newcomer, f"{newcomer}@example.org", "hashed_password_abc", "Alice Wonder", 28))
        db.commit_transaction()
        show("In a transaction:", changed["rows_affected"], "users aged by a year,", newcomer, "added")
    except DatabaseQueryError as error:
        db.rollback_transaction()
        show("A transaction was undone:", type(error).__name__)


def main() -> None:
    narrate()
    db = SQLDatabase(sys.argv[1] if len(sys.argv) > 1 else "sqlite://users")
    db.connect(max_retries=3)
    think("Begin with an empty table, so that each run gives the same.")
    db.execute_query("DROP TABLE IF EXISTS users")
    db.execute_query(TABLE.format(key=KEYS[db.database_type]))

    for user in USERS:
        show("Inserted", user[0], "with the id", db.execute_query(INSERT, user)["last_insert_id"])
    show("All users:")
    list_users(db)
    list_users(db)  # the answer is kept, since nothing changed

    show("Users over 28:")
    for user in db.execute_query("SELECT * FROM users WHERE age > ? ORDER BY age", [28], use_cache=True)["rows"]:
        show(" ", user["username"], "age", user["age"])
    updated = db.execute_query(
        "UPDATE users SET full_name = :name, age = :age WHERE username = :user",
        {"name": "John Updated Doe", "age": 31, "user": "john_doe"},
    )
    show("Updated", updated["rows_affected"], "user")

    grow_older(db, "alice_wonder")
    grow_older(db, "jane_smith")  # her name is taken
    show("Deleted", db.execute_query("DELETE FROM users WHERE username = ?", ["bob_johnson"])["rows_affected"], "user")
    show("Users remaining:", db.execute_query("SELECT COUNT(*) AS total FROM users")["rows"][0]["total"])
    list_users(db)

    stats = db.get_performance_stats()
    for name in ("total_queries", "successful_queries", "failed_queries", "cache_hits"):
        show(" ", name, stats[name])
    show("Average time in milliseconds is above 0:", stats["average_query_time"] * 1000 > 0)
    show("The last five:")
    for done in db.get_transaction_history()[-5:]:
        show("  ok " if done["success"] else "  not", done["query"])
    db.close_connection()


if __name__ == "__main__":
    main()
