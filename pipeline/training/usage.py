"""What a training takes of a machine, by the names of MLflow's system metrics."""

from pathlib import Path

import psutil
import torch


class Usage:
    """Of the machine that this process runs on. Percentages are of all that it has.

    folder: on the disk to measure; it need not exist yet.
    """

    def __init__(self, device: torch.device, folder: Path) -> None:
        self._cuda = device.type == "cuda"
        self._folder = folder
        psutil.cpu_percent()  # the next call's figure is of the time since this one

    def figures(self) -> dict[str, float]:
        """Processors since the last call; memory, disk and the GPUs' memory now. MB are 1e6 bytes.

        What other processes take counts too.
        """
        there = next(each for each in (self._folder, *self._folder.parents) if each.exists())
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(there))
        found = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / 1e6,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
            "disk_usage_percentage": disk.percent,
            "disk_available_megabytes": disk.free / 1e6,
        }
        for gpu in range(torch.cuda.device_count() if self._cuda else 0):
            free, total = torch.cuda.mem_get_info(gpu)
            found[f"gpu_{gpu}_memory_usage_megabytes"] = (total - free) / 1e6
            found[f"gpu_{gpu}_memory_usage_percentage"] = 100 * (1 - free / total)
        return found
