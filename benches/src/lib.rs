//! Benchmarks: criterion in process and over loopback, bare epoll loops as the limit, and a load generator
