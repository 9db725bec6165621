// The system's LZ4: block compression only. Nothing here allocates.
#pragma once
#include <lz4.h>
