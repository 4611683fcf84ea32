# `cmake -P` of this file succeeds where the system's CMake is new enough to build libft.
cmake_minimum_required(VERSION 3.24)
