-- Who ordered when, and what became of it.

-- up sqlite
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers (id),
    status TEXT NOT NULL,
    placed_at TEXT NOT NULL
) STRICT;
CREATE INDEX orders_by_customer ON orders (customer_id);

-- up postgresql
CREATE TABLE orders (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id BIGINT NOT NULL REFERENCES customers (id),
    status TEXT NOT NULL,
    placed_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX orders_by_customer ON orders (customer_id);

-- up mysql
CREATE TABLE orders (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    customer_id BIGINT NOT NULL REFERENCES customers (id),
    status VARCHAR(20) NOT NULL,
    placed_at DATETIME(6) NOT NULL,
    INDEX orders_by_customer (customer_id)
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- down
DROP TABLE orders;
