CREATE TABLE task (title TEXT);
