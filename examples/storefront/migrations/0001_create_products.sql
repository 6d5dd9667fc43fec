-- The catalogue. Prices are whole cents, so that nothing is lost in rounding.
-- Each engine is told to compare text letter by letter: then lists come in the same order everywhere.

-- up sqlite
CREATE TABLE products (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    category TEXT NOT NULL,
    description TEXT NOT NULL,
    cents INTEGER NOT NULL CHECK (cents > 0),
    stock INTEGER NOT NULL CHECK (stock >= 0)
) STRICT;
CREATE INDEX products_by_category ON products (category, name);

-- up postgresql
CREATE TABLE products (
    id BIGINT PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    category TEXT COLLATE "C" NOT NULL,
    description TEXT NOT NULL,
    cents INTEGER NOT NULL CHECK (cents > 0),
    stock INTEGER NOT NULL CHECK (stock >= 0)
);
CREATE INDEX products_by_category ON products (category, name);

-- up mysql
CREATE TABLE products (
    id BIGINT PRIMARY KEY,
    name VARCHAR(100) NOT NULL,
    category VARCHAR(50) NOT NULL,
    description VARCHAR(500) NOT NULL,
    cents INTEGER NOT NULL CHECK (cents > 0),
    stock INTEGER NOT NULL CHECK (stock >= 0),
    INDEX products_by_category (category, name)
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- down
DROP TABLE products;
