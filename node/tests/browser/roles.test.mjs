// Who may do what at the console, asked as a browser asks and as an attacker would.
import test, { after, before } from "node:test";
import assert from "node:assert/strict";
import { Company, browser, logIn, sound } from "./company.mjs";

let company, hub, chrome;
const tokens = {};

before(async () => {
  company = new Company();
  hub = await company.hub();
  for (const role of ["viewer", "reviewer"]) tokens[role] = company.person(`${role}-1`, role);
  await company.till("s1", "till-01");
  chrome = await browser();
});
after(async () => {
  await chrome?.close();
  await company?.end();
});

async function as(role) {
  const page = await chrome.open();
  await logIn(page, hub, tokens[role]);
  const csrf = await page.locator("input[name=csrf]").first().getAttribute("value");
  const post = (path, fields, headers = {}) =>
    page.request.post(hub.url + path, { form: { csrf, ...fields }, maxRedirects: 0, headers: { origin: hub.url, ...headers } });
  return { page, post };
}

test("nobody sees anything without a log-in, and a wrong token is slowed down", async () => {
  const page = await chrome.open();
  await page.goto(`${hub.url}/books`);
  assert.equal(new URL(page.url()).pathname, "/login");
  await sound(page, "login");
  const statuses = [];
  for (let tries = 0; tries < 7; tries += 1) {
    const answer = await page.request.post(`${hub.url}/login`, { form: { token: `tsk_wrong${tries}` } });
    statuses.push(answer.status());
  }
  assert.equal(statuses[0], 401);
  assert.equal(statuses.at(-1), 429);
  await page.context().close();
});

test("the wait is over for a right token in another minute, so the rest of this file logs in at a fresh hub", async () => {
  await hub.stop();
  hub = await company.hub();
});

test("a viewer cannot decide, a reviewer cannot enrol, and neither sees the form", async () => {
  const viewer = await as("viewer"), reviewer = await as("reviewer");
  const refused = async (answer, words) => {
    assert.equal(answer.status(), 403);
    assert.match(await answer.text(), words);
  };
  await refused(await viewer.post("/review/C-1/decide", { choice: "approve:", reason: "x" }), /needs the role of reviewer; viewer-1 has that of viewer/);
  await refused(await viewer.post("/days/s1/2026-01-01/lock", {}), /needs the role of reviewer/);
  await refused(await viewer.post("/books/exports/cut", { format: "csv" }), /needs the role of reviewer/);
  await refused(await reviewer.post("/fleet/enrol", { store: "s1", terminal: "t9" }), /needs the role of admin; reviewer-1 has that of reviewer/);
  await refused(await reviewer.post("/fleet/revoke", { terminal: "till-01" }), /needs the role of admin/);
  await refused(await reviewer.post("/fleet/policies/s1/set", { key: "ageing_hours", value: "1" }), /needs the role of admin/);
  await reviewer.page.goto(`${hub.url}/fleet`);
  assert.equal(await reviewer.page.getByText("Let a till in").count(), 0);
  for (const it of [viewer, reviewer]) await it.page.context().close();
});

test("a form needs the secret of its session and comes from here", async () => {
  const reviewer = await as("reviewer");
  const forged = await reviewer.post("/books/exports/cut", { csrf: "guessed", format: "csv" });
  assert.equal(forged.status(), 403);
  const elsewhere = await reviewer.post("/books/exports/cut", { format: "csv" }, { origin: "http://evil.example" });
  assert.equal(elsewhere.status(), 403);
  await reviewer.page.context().close();
});

test("somebody who was removed is out at once", async () => {
  const page = await chrome.open();
  await logIn(page, hub, company.person("gone", "viewer"));
  const removed = await fetch(`${hub.url}/v1/people/gone`, { method: "DELETE", headers: { authorization: `Bearer ${company.admin}` } });
  assert.equal(removed.status, 200);
  // The open page notices by itself.
  await page.waitForURL("**/login*");
  await page.goto(`${hub.url}/books`);
  assert.equal(new URL(page.url()).pathname, "/login");
  await page.context().close();
});

test("pages carry the headers that keep others out, and no token", async () => {
  const viewer = await as("viewer");
  const answer = await viewer.page.goto(`${hub.url}/`);
  const headers = answer.headers();
  assert.match(headers["content-security-policy"], /default-src 'none'.*frame-ancestors 'none'/);
  assert.ok(!headers["content-security-policy"].includes("unsafe"));
  assert.equal(headers["x-content-type-options"], "nosniff");
  assert.equal(headers["referrer-policy"], "same-origin");
  assert.equal(headers["cache-control"], "no-store");
  assert.ok(!(await answer.text()).includes("tsk_"));
  const [cookie] = await viewer.page.context().cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, "Strict"]);
  await viewer.page.context().close();
});

test("an administrator lets a till in by code and picture, and shuts one out", async () => {
  const page = await chrome.open();
  await logIn(page, hub, company.admin);
  await page.goto(`${hub.url}/fleet`);
  await page.getByLabel("Store").fill("s1");
  await page.getByLabel("Name of the till").fill("till-07");
  await page.getByRole("button", { name: "Make a code" }).click();
  await page.getByText("tillsync terminal join").waitFor();
  assert.equal(await page.locator("svg.qr path").count(), 1);
  await sound(page, "fleet-code");
  await page.locator("#devices summary", { hasText: "Shut out" }).click();
  await page.getByRole("button", { name: "Shut till-01 out" }).click();
  await page.getByText("till-01 is shut out").waitFor();
  await page.context().close();
});

test("no page said anything on the browser's console", () => {
  assert.deepEqual(chrome.faults, []);
});
