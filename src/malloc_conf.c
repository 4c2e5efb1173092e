/*
 * jemalloc's settings, compiled into the program: jemalloc looks for this symbol. docs/decisions/0009-jemalloc.md says why
 * there are few arenas and why freed memory goes back after a twentieth of a second.
 */
const char *_rjem_malloc_conf = "narenas:2,dirty_decay_ms:50,muzzy_decay_ms:0";
