-- Accounts of every test server, in place before the first transaction is
-- logged: baton is the operator's, repl the replicas', app the writers' (it must
-- not pass read_only or offline_mode, so it has no global privilege).
CREATE USER 'baton'@'%' IDENTIFIED BY 'baton';
GRANT ALL PRIVILEGES ON *.* TO 'baton'@'%' WITH GRANT OPTION;
CREATE USER 'repl'@'%' IDENTIFIED BY 'repl';
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'repl'@'%';
CREATE DATABASE app;
CREATE USER 'app'@'%' IDENTIFIED BY 'app';
GRANT ALL PRIVILEGES ON app.* TO 'app'@'%';
