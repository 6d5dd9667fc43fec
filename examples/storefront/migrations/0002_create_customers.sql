-- Those who order. E-mail addresses are kept in small letters, so that each belongs to one customer.

-- up sqlite
CREATE TABLE customers (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    email TEXT NOT NULL UNIQUE,
    city TEXT NOT NULL,
    since TEXT NOT NULL
) STRICT;

-- up postgresql
CREATE TABLE customers (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    email TEXT NOT NULL UNIQUE,
    city TEXT NOT NULL,
    since DATE NOT NULL
);

-- up mysql
CREATE TABLE customers (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(100) NOT NULL,
    email VARCHAR(330) NOT NULL UNIQUE,
    city VARCHAR(100) NOT NULL,
    since DATE NOT NULL
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- down
DROP TABLE customers;
