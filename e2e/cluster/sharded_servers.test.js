// Servers of Roomcast and of Node with the sharded adapter in one cluster, in each subscription mode.
import { describe } from "node:test";
import { registerOperations } from "./operations.js";

for (const mode of ["static", "dynamic", "dynamic-private"]) {
  describe(mode, () => registerOperations(`sharded-${mode}`));
}
