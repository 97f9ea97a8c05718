-- Mixed load for .ci/http-load: creates, looks, lists, claims and completes tasks, and tallies
-- the status of every answer. Each thread of wrk has its own state; done() gathers it.

local STATUSES = { "200", "201", "204", "400", "404", "405", "409", "413", "500", "503", "other" }
local threads = {}

function setup(thread)
   thread:set("number", #threads)
   table.insert(threads, thread)
end

function init()
   name = "wrk-" .. number
   math.randomseed(number + 1)
   created = 0      -- tasks, to give each a title of its own
   known = {}       -- ids of tasks, to look at
   held = {}        -- ids that this thread has claimed and not asked to complete yet
   claimed = {}     -- ids that were in `held` at some time
   wrong = 0        -- answers that do not fit any question
   for _, status in ipairs(STATUSES) do _G["status_" .. status] = 0 end
   worker = '{"worker": "' .. name .. '", "lease_seconds": 3600}'
end

local function post(path, body)
   return wrk.format("POST", path, { ["Content-Type"] = "application/json" }, body)
end

function request()
   local dice = math.random(100)
   if dice <= 25 or #known == 0 then
      created = created + 1
      local on = ""
      if dice <= 3 and #known > 0 then on = ', "depends_on": [' .. known[math.random(#known)] .. "]" end
      return post("/tasks", '{"title": "' .. name .. " " .. created .. '"' .. on .. "}")
   elseif dice <= 45 then
      return post("/claim", worker)
   elseif dice <= 65 and #held > 0 then
      local id = table.remove(held)
      return post("/tasks/" .. id .. "/complete", '{"worker": "' .. name .. '", "result": "by ' .. name .. '"}')
   elseif dice <= 70 then
      -- Often refused: somebody was first.
      return post("/tasks/" .. known[math.random(#known)] .. "/claim", worker)
   elseif dice <= 75 then
      return wrk.format("GET", "/tasks?state=open&limit=10")
   elseif dice <= 77 then
      return wrk.format("GET", "/nowhere")
   elseif dice <= 79 then
      return post("/tasks", '{"title": ')
   else
      return wrk.format("GET", "/tasks/" .. known[math.random(#known)])
   end
end

function response(status, headers, body)
   local counter = "status_" .. status
   if _G[counter] == nil then counter = "status_other" end
   _G[counter] = _G[counter] + 1

   local id = body:match('^{"id":(%d+),')
   if status == 201 then
      -- Created by this thread, or another thread's answer has come here.
      if id == nil or not body:find('"title":"' .. name .. " ", 1, true) then wrong = wrong + 1 end
      if id ~= nil then known[#known % 1000 + 1] = id end
   elseif status == 200 and id ~= nil then
      if body:find('"state":"claimed"', 1, true) and body:find('"claimed_by":"' .. name .. '"', 1, true)
         and not claimed[id] then
         claimed[id] = true
         table.insert(held, id)
      end
   elseif status == 200 and not body:find('^{"total":') then
      wrong = wrong + 1
   elseif status >= 400 and not body:find('^{"error":') then
      wrong = wrong + 1
   end
end

function done(summary, latency, requests)
   local function report(key, value) io.write(string.format("result %s %d\n", key, value)) end
   for _, status in ipairs(STATUSES) do
      local total = 0
      for _, thread in ipairs(threads) do total = total + thread:get("status_" .. status) end
      report("status_" .. status, total)
   end
   local wrong = 0
   for _, thread in ipairs(threads) do wrong = wrong + thread:get("wrong") end
   report("wrong", wrong)
   report("requests", summary.requests)
   report("microseconds", summary.duration)
   local errors = summary.errors
   report("socket_errors", errors.connect + errors.read + errors.write + errors.timeout)
   report("median_us", latency:percentile(50))
   report("p99_us", latency:percentile(99))
end
