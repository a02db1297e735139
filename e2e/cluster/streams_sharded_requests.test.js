// Servers of Roomcast and of Node with the streams adapter whose requests use sharded channels, in one cluster.
import { registerOperations } from "./operations.js";

registerOperations("streams-sharded");
