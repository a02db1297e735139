// Process statistics, read from /proc.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { PATIENCE } from "./patience.js";

/** Bytes of memory in use now */
export const memory = (pid) => statusBytes(pid, "VmRSS");

/** The most bytes of memory since `forgetPeak` */
export const peakMemory = (pid) => statusBytes(pid, "VmHWM");

/** Resets the peak; without that permission it is unchanged */
export function forgetPeak(pid) {
  writeFileSync(`/proc/${pid}/clear_refs`, "5");
}

/** How many descriptors are open */
export const descriptors = (pid) => readdirSync(`/proc/${pid}/fd`).length;

/** How many threads there are */
export const threads = (pid) => readdirSync(`/proc/${pid}/task`).length;

/** Milliseconds of processor time since the process began, in steps of 10 */
export function processorTime(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  // The name in brackets may have spaces; user and system time are the 14th and 15th field.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
}

/**
 * Milliseconds that the machine has kept for others: what these processes and the thread that asks were ready to run
 * and did not, and what the host took from the machine itself
 */
export function withheld(...pids) {
  return pids.reduce((sum, pid) => sum + starvation(pid), stolen() + threadStarvation("/proc/thread-self"));
}

/** Milliseconds for which threads of it could have run and were not let, because others had the processors */
export function starvation(pid) {
  try {
    const threads = readdirSync(`/proc/${pid}/task`);
    return threads.reduce((sum, id) => sum + threadStarvation(`/proc/${pid}/task/${id}`), 0);
  } catch {
    return 0; // It has ended.
  }
}

function threadStarvation(folder) {
  try {
    return Number(readFileSync(`${folder}/schedstat`, "latin1").split(" ")[1]) / 1e6;
  } catch {
    return 0; // It has ended, or the system does not tell.
  }
}

function stolen() {
  try {
    const [all] = readFileSync("/proc/stat", "latin1").split("\n");
    return (Number(all.trim().split(/\s+/)[8]) || 0) * MS_PER_TICK;
  } catch {
    return 0; // There is no /proc.
  }
}

/**
 * Waits until a process has heard all that was sent to it, and has done what it does at once: none of its threads runs
 * or wants to.
 *
 * For what one test does over several connections, whose order nobody else keeps. A pause of some milliseconds would
 * not do: on a busy machine the process may not have had its turn in that time.
 */
export async function settled(pid) {
  // Without /proc, as outside of Linux, there is nothing to look at.
  if (!existsSync(`/proc/${pid}/task`)) return sleep(100);
  const deadline = Date.now() + PATIENCE;
  // What this program writes leaves it within a turn or two of its event loop, so one look is none.
  for (let looks = 0; looks < 3 && Date.now() < deadline; looks = isAtRest(pid) ? looks + 1 : 0) await sleep(5);
}

function isAtRest(pid) {
  try {
    const threads = readdirSync(`/proc/${pid}/task`).map((id) => readFileSync(`/proc/${pid}/task/${id}/stat`, "latin1"));
    // Behind the name in brackets: running or about to, or waiting for a disk.
    return threads.every((stat) => !/^[RD]/.test(stat.slice(stat.lastIndexOf(")") + 2)));
  } catch {
    return false; // A thread has ended between two looks.
  }
}

function statusBytes(pid, name) {
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)[1]) * 1024;
}

const MS_PER_TICK = 10;
