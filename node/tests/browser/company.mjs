// A company of real processes on loopback for the browser's tests, and a browser that remembers what went wrong in it.
import { spawn, execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createRequire } from "node:module";
import assert from "node:assert/strict";

const require = createRequire(import.meta.url);
const { chromium } = require("playwright-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const program = process.env.TILLSYNC_BIN ?? path.resolve(import.meta.dirname, "../../../target/release/tillsync");
// The patience is for slow machines; nothing is measured by it.
export const PATIENCE = 60_000;

function ask(...args) {
  return JSON.parse(execFileSync(program, [...args, "--json"], { encoding: "utf8" }));
}

class Node {
  static async start(args) {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "ignore"], env: { ...process.env, RUST_LOG: "warn" } });
    const line = await new Promise((resolve, reject) => {
      let text = "";
      child.stdout.on("data", (bytes) => { text += bytes; if (text.includes("\n")) resolve(text.split("\n")[0]); });
      child.on("exit", (code) => reject(new Error(`${args.join(" ")} ended with ${code}`)));
    });
    const node = new Node();
    node.child = child;
    node.fields = Object.fromEntries(line.split(" ").slice(1).map((it) => it.split("=")));
    node.url = `http://${node.fields.http}`;
    return node;
  }
  async stop(signal = "SIGTERM") {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill(signal);
    await gone;
  }
}

export class Company {
  constructor() {
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), "tillsync-browser-"));
    this.dir = path.join(this.folder, "hub");
    this.admin = ask("hub", "init", "--dir", this.dir, "--company", "The Corner Shop Ltd", "--currency", "GBP").token;
    this.nodes = [];
  }
  async hub() {
    const listen = this.quic ?? "127.0.0.1:0", http = this.http ?? "127.0.0.1:0";
    const node = await Node.start(["hub", "run", "--dir", this.dir, "--listen", listen, "--http", http]);
    ({ quic: this.quic, http: this.http } = node.fields);
    this.nodes.push(node);
    return node;
  }
  person(name, role) {
    return ask("hub", "people", "add", "--name", name, "--role", role, "--dir", this.dir).token;
  }
  async till(store, terminal) {
    const dir = path.join(this.folder, terminal);
    const { code } = ask("hub", "enroll", "--dir", this.dir, "--store", store, "--terminal", terminal);
    execFileSync(program, ["terminal", "join", "--dir", dir, "--code", code]);
    const node = await Node.start(["terminal", "run", "--dir", dir, "--http", "127.0.0.1:0"]);
    this.nodes.push(node);
    return node;
  }
  async end() {
    for (const node of this.nodes) await node.stop("SIGKILL");
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

// A browser whose pages note every error; `faults` must stay empty.
export async function browser() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const it = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  const faults = [];
  const open = async (options = {}) => {
    const context = await it.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    page.on("console", (message) => {
      // That a node which was stopped on purpose does not answer is the story, not a fault.
      const gone = /ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/.test(message.text());
      const refused = /status of (401|403|422)/.test(message.text());
      if (message.type() === "error" && !gone && !refused) faults.push(`${page.url()}: ${message.text()}`);
    });
    page.on("pageerror", (error) => faults.push(`${page.url()}: ${error.message}`));
    return page;
  };
  return { open, faults, close: () => it.close() };
}

export async function logIn(page, hub, token) {
  await page.goto(`${hub.url}/login`);
  await page.getByLabel("Your token").fill(token);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL(`${hub.url}/`);
}

// No serious fault of accessibility, and nothing that sticks out sideways; a picture for who wants to look.
export async function sound(page, name) {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 390]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: width > 500 ? 900 : 844 });
      // Evaluated by the debugger, which no content policy stops: the pages themselves stay as closed as they are.
      await page.evaluate(`${axe};0`);
      const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }).then((it) => it.violations));
      const serious = found.filter((it) => it.impact === "serious" || it.impact === "critical");
      const told = serious.map((it) => `${it.id}: ${it.nodes.map((node) => node.html).slice(0, 3).join(" | ")}`);
      assert.deepEqual(told, [], `${name} at ${width} px, ${colorScheme}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= width, `${name} is ${wide} px wide on a screen of ${width}`);
      if (process.env.SHOTS) {
        const file = path.join(process.env.SHOTS, `${name}-${width}-${colorScheme}.png`);
        await page.screenshot({ path: file, fullPage: true });
      }
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1280, height: 900 });
}
